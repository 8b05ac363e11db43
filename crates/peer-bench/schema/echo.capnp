@0xc4b0a1f29f0d6e71;
# What the bench calls and publishes.

using Selfsame = import "/selfsame.capnp";

interface Echo {
  # Gives back what it is given. The same in each retry class, since the class is what is compared.

  carry @0 (sequence :UInt64, payload :Data) -> (sequence :UInt64, payload :Data);
  # With a record.

  carryAgain @1 (sequence :UInt64, payload :Data) -> (sequence :UInt64, payload :Data) $Selfsame.retry(idempotent);
  # Without.

  look @2 (sequence :UInt64, payload :Data) -> (sequence :UInt64, payload :Data) $Selfsame.retry(readOnly);
  # Without.
}

struct Tick $Selfsame.topic("peer.tick") {
  # An event.
  sequence @0 :UInt64;
  payload @1 :Data;
}
