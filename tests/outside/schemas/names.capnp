@0xd1b2c3a495867701;
# Names that generated code has other uses for.

using Selfsame = import "/selfsame.capnp";

interface Type $Selfsame.Raises(Fn).it {
  # A keyword as an interface, keywords as methods.
  type @0 () -> ();
  self @1 (self :Text, async :Text, type :UInt8, core :Core) -> (super :Bool, crate :Text);
  async @2 (clone :Text) -> ();
  await @3 () -> ();
  dyn @4 () -> ();
  gen @5 () -> ();
  try @6 () -> ();
  clone @7 () -> ();
  new @8 () -> ();
  connect @9 () -> ();
  local @10 () -> ();
  channel @11 () -> ();
  into @12 () -> ();
  drop @13 () -> ();
  once @14 () -> ();
  mod @15 () -> ();
  interfaces @16 () -> ();
  status @17 () -> (status :Status);
  statusParams @18 (x :Int8) -> ();
  super @19 () -> ();
  inner @20 () -> (inner :Inner, params :StatusParams);
  call @21 () -> ();
  service @22 () -> ();
  request @23 (request :Text, fill :Text) -> ();

  enum Status { self @0; super @1; ok @2; err @3; }
  struct Inner { x @0 :Int8; }
  struct StatusParams { x @0 :Int8; }
  struct InnerParams { x @0 :Int8; }
  struct Owned { x @0 :Int8; }
  interface Nested { type @0 () -> (); inner @1 (x :Inner) -> (x :Owned); }
  const interface :UInt8 = 3;
  const use :Text = "{ \" crate::__selfsame::x } // \\";
}

interface S extends(R) { s @0 (s :S2) -> (); }
interface R { r @0 () -> (); s @1 () -> (); }
interface Arc { arc @0 () -> (); }
interface From { from @0 () -> (); }
interface Send { send @0 () -> (); }
interface Client { client @0 () -> (); }
interface Account { get @0 () -> (x :AccountClient); }
interface AccountServer { get @0 () -> (); }
struct AccountClient { x @0 :Text; }
struct S2 { s @0 :Int8; }
struct Fn { fn @0 :Text; impl @1 :Impl; enum Impl { fn @0; impl @1; trait @2; } }
struct Core { core @0 :Text; union { u16 :group { bool @1 :UInt16; } str @2 :Str; } }
struct Str { str @0 :Text; }
struct Bool { bool @0 :Bool; }
struct U16 { u16 @0 :UInt16; e @1 :From2; enum From { u16 @0; } f @2 :From = u16; }
enum From2 { from @0; }
struct Option { some @0 :Text; }
struct Result { union { ok @0 :Void; err @1 :Text; } }
struct Vec {}
struct String {}
struct Box(T) { x @0 :T; }
struct Self { self @0 :Text; }

struct Hard {
  union {
    self @0 :Text;
    reader @1 :Text;
    owned @2 :Text;
    builder @3 :UInt8;
    pipeline @4 :Void;
    which @5 :Kind;
    kind @6 :Kind;
    a @7 :Void;
    async :group { type @8 :Text; await @9 :Kind; }
  }
  a2 @10 :List(Kind) = [self, pipeline];
  enum Kind { self @0; pipeline @1; which @2; from @3; }
  enum Which { x @0; }
  enum Owned { x @0; }
  struct Reader { x @0 :Text; }
  struct Builder { x @0 :Text; }
  struct Async { x @0 :Text; }
  struct Core { x @0 :Text; y @1 :Which = x; z @2 :Owned; }
  const aB :UInt8 = 1;
  const super :Hard.Kind = self;
  interface Inside { inside @0 (x :Reader) -> (y :Owned); }
  box :group { dyn @11 :Text; }
}

struct Generic(Reader, Owned, T, Which) {
  union { reader @0 :Reader; t @1 :T; o @2 :Owned; w @3 :Which; }
  e @4 :E;
  l @5 :List(E);
  n @6 :Nested(Text);
  b @7 :Box(Nested(Data));
  enum E { x @0; }
  struct Nested(T) { x @0 :T; e @1 :E; g :group { u @2 :T; } }
}
const fooBar :Text = "x";
const crate :UInt8 = 3;
const pi :Float64 = 3.5;
struct Shadows { core @0 :Core; u16 @1 :U16; enum Core { core @0; } enum U16 { u16 @0; } enum Type { type @0; } type @2 :Type; }
