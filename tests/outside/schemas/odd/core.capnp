@0xd1b2c3a495868807;
struct F { x @0 :UInt16; e @1 :E; enum E { a @0; } }
