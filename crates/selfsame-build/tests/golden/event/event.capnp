@0xc0de000000000004;
using Selfsame = import "/selfsame.capnp";

struct Sold $Selfsame.topic("shop.sold") {
  # An article was sold.
  article @0 :Text $Selfsame.key;
}

struct Painted $Selfsame.topic("shop.painted") {
  colour @0 :Colour $Selfsame.key;
  enum Colour { red @0; blue @1; }
}

struct Opened $Selfsame.topic("shop.opened") { struct Door $Selfsame.topic("shop.door") { number @0 :Int16 $Selfsame.key; } }
