@0xc0de000000000003;
# Messages only.

struct Shape {
  # A shape.

  name @0 :Text = "square";
  union {
    circle @1 :Float64;
    kind @2 :Kind;
    box :group { width @3 :UInt16; height @4 :UInt16; }
  }
  edges @5 :List(List(Edge));

  enum Kind { self @0; other @1; }
  struct Edge { to @0 :Shape; }
}

struct Pair(First, Second) { first @0 :First; second @1 :Second; }

const limit :UInt32 = 5;
const unit :Shape = (circle = 1);
