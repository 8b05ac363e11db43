@0xd1b2c3a495868803;
using N = import "notes.capnp";
$N.note("file");
$N.rich((a = "x", b = [1,2]));
using Alias = N.S;
interface Empty $N.note("x") {}
interface Only extends(Empty) $N.Gen(Text).ann("x") { m @0 (a :Alias $N.note("p")) -> (s :N.Gen(Alias)) $N.note("m"); }
struct Unions $N.note("s") {
  u0 :union { a @0 :Void; b @1 :Void; }
  u1 :union { g :group { union { a @2 :Void; b @3 :Text; } h :group { i :group { j @4 :Text; } } } k @5 :Void; }
  union { x @6 :Bool $N.note("f"); y @7 :List(Unions); z :union { p @8 :Void; q @9 :Empty2; } }
}
struct Empty2 {}
enum One { one @0 $N.note("e"); }
struct Deep { struct A { struct B { struct C { interface I { m @0 () -> (e :E); enum E { x @0; } struct S { e @0 :E; interface J { j @0 (s :S) -> (); } } } c @0 :C; const k :One = one; } } } }
struct Gen2(A, B) {
  struct In(C) { a @0 :A; b @1 :B; c @2 :C; e @3 :E; le @4 :List(E); union { u @5 :A; w @6 :List(In(C)); } enum E { x @0; } struct Leaf { e @0 :In(A).E; a @1 :A; union { q @2 :C; r @3 :Void; } } }
  x @0 :In(B); y @1 :In(Text).Leaf; g :group { a @2 :A; h :group { b @3 :B; } }
  union { only :group { a @4 :A; b @5 :B; } none @6 :Void; }
  dup @7 :Gen3(Gen3(A)); lg @8 :List(Gen3(A)); lll @9 :List(List(List(In(B))));
}
struct Gen3(A) { x @0 :A; struct Shadow(A) { y @0 :A; e @1 :Sh; enum Sh { x @0; } } s @1 :Shadow(Text); union { a @2 :A; g :group { v @3 :Void; w @4 :A; } } }
struct UseGen { g @0 :Gen2(Text, List(Text)); h @1 :Gen2(Gen2(Text, Data), Gen3(UseGen)); i @2 :Gen2; j @3 :Gen3(List(List(UInt8))).Shadow(Data); k @4 :Gen3(AnyPointer); }
const c1 :Gen3(Text) = (x = "y");
const c2 :List(Unions) = [(x = true)];
const c3 :Data = "abc";
const c4 :Int64 = -9223372036854775808;
const c5 :Float32 = 1e-40;
const c6 :Void = void;
const c7 :Float64 = -0.0;
const c8 :UInt64 = 18446744073709551615;
const c9 :Text = "\n\x01\"{} é // /*";
const c10 :Text = .c9;
const c11 :List(One) = [one];
const c12 :List(Data) = ["x"];
const c13 :List(Gen3(Text)) = [(x = "")];
struct Defaults { a @0 :Gen3(Text) = (x = "y"); b @1 :List(Unions) = [(x = true)]; c @2 :One = one; d @3 :List(One) = [one, one]; e @4 :Float32 = nan; f @5 :Text = .c9; g @6 :Bool = true; h @7 :List(List(Text)) = [["{"]]; i @8 :AnyPointer; j @9 :Data = 0x"7b"; }
struct Retro { a @0 :Int32; union { b @1 :Int32; c @2 :Text; } d @3 :Int32; }
struct Many { a0 @0 :Bool; union { a1 @1 :Bool; a2 @2 :Bool; } }
interface Big { m0 @0 Gen3(Text) -> Gen3(Text).Shadow(Data); m1 @1 Unions -> Deep.A.B.C.I.S; m2 @2 (x :Deep.A.B.C.I.E = x, y :List(Deep.A.B.C.I.E), z :Text = "d{") -> Empty2; }
struct ABC { aBC @0 :Text; aBc @1 :Text; a1b @2 :Text; x1 :group { y @3 :Void; } }
interface X509 { getURL @0 (theURL :Text) -> (hTTP :Text); get2 @1 () -> (); }
