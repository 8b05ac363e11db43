@0xd1b2c3a495868802;
annotation note @0xd1b2c3a495868899 (*) :Text;
annotation rich(*) :S;
struct S { a @0 :Text; b @1 :List(UInt8); }
struct Gen(T) { annotation ann(*) :T; x @0 :T; }
