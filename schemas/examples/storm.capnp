@0x96e4fd3c0354eb79;
# What examples/retry_storm calls through a network that loses, delays and doubles.

using Selfsame = import "/selfsame.capnp";

interface Storm {
  changePassword @0 (user :Text, password :Text) -> (version :UInt32);
  # Has one effect however often it is sent.

  changePasswordAgain @1 (user :Text, password :Text) -> (version :UInt32) $Selfsame.retry(idempotent);
  # Its twin, annotated as what it is not: running it twice is not the same as running it once. So the storm shows what it prevents.
}
