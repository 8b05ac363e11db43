@0xb1f1d4c2a7e39056;
# What the victim of the attacks serves and publishes: as little as a service can.

using Selfsame = import "/selfsame.capnp";

interface Mark {
  post @0 (number :UInt64, replySize :UInt32, padding :Data) -> (number :UInt64, padding :Data);
  # Once. Answers with the number, and as many bytes as were asked for.
}

struct Beat $Selfsame.topic("mark.beat") {
  # Published all the time: who hears it knows how long it was under way.

  sent @0 :UInt64;
  # Microseconds of the machine's monotonic clock.
}

struct Flood $Selfsame.topic("mark.flood") {
  # Published as much as is ordered.

  padding @0 :Data;
}
