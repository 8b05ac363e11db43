@0x836e483b64987f1d;
# Prices as events: the contract of examples/ticker and examples/watcher.

using Selfsame = import "/selfsame.capnp";

struct Price $Selfsame.topic("ticker.price") {
  # What a share costs now.
  symbol @0 :Text $Selfsame.key;
  cents @1 :UInt64;
}
