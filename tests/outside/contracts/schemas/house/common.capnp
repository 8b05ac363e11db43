@0xd1b2c3a495867705;
using Selfsame = import "/selfsame.capnp";

interface Health {
  check @0 (what :Item) -> (items :List(Item)) $Selfsame.retry(readOnly);
  # How it is.
}

struct Item { name @0 :Text; state @1 :State; }

enum State { well @0; ill @1; }

struct Boxed(T) { value @0 :T; }

struct Refused { why @0 :Text; }
