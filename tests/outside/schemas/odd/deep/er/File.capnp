@0xd1b2c3a495868804;
using O = import "../../odd.capnp";
struct File { f @0 :O.Gen2(File, O.Deep.A.B.C); }
interface Fn extends(O.Deep.A.B.C.I, O.Big) { m @0 () -> (); m0 @1 () -> (); }
