@0xd1b2c3a495867702;
# A file whose name is no Rust name.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("outside::types");

struct Everything {
  # A struct of all kinds of fields.
  #
  #     let indented = "code, that rustdoc would compile";
  #
  # ```
  # fn fenced() { nonsense }
  # ```
  void @0 :Void;
  bool @1 :Bool = true;
  int8 @2 :Int8 = -1;
  int16 @3 :Int16;
  int32 @4 :Int32;
  int64 @5 :Int64 = -9223372036854775808;
  uInt8 @6 :UInt8;
  uInt16 @7 :UInt16;
  uInt32 @8 :UInt32;
  uInt64 @9 :UInt64 = 18446744073709551615;
  float32 @10 :Float32 = inf;
  float64 @11 :Float64 = nan;
  text @12 :Text = "default";
  data @13 :Data = 0x"00 ff";
  list @14 :List(List(List(Text))) = [[["a"], []], []];
  structs @15 :List(Point);
  points @16 :List(List(Point));
  colours @17 :List(List(Colour));
  point @18 :Point = (x = 1, y = 2);
  any @19 :AnyPointer;
  colour @20 :Colour = blue;
  anyStruct @21 :AnyStruct;
  anyList @22 :AnyList;
  bools @23 :List(Bool) = [true, false];
  datas @24 :List(Data);
  self @25 :Everything;
  voids @26 :List(Void);

  place :union {
    # A named union.
    nowhere @27 :Void;
    point @28 :Point;
    name @29 :Text;
    polar :group {
      angle @30 :Float64;
      radius @31 :Float64;
      unit :union { metre @32 :Void; foot @33 :UInt8; }
    }
  }
  address :group {
    street @34 :Text;
    number @35 :UInt16;
  }
  map @36 :Map(Text, Point);
  tree @37 :Map(Text, Map(Data, List(Colour))).Tree;
  maps @38 :List(Map(List(Point), List(List(UInt8))));
}

struct Point $Cxx.name("Punkt") { x @0 :Int32; y @1 :Int32; }

enum Colour { red @0; green @1 $Cxx.name("gruen"); blue @2; }

struct Map(Key, Value) {
  entries @0 :List(Entry);
  struct Entry { key @0 :Key; value @1 :Value; kind @2 :Kind; }
  struct Tree { left @0 :Tree; right @1 :Tree; union { leaf @2 :Entry; none @3 :Void; } }
  enum Kind { old @0; new @1; }
  union { one @1 :Key; other @2 :Value; pair :group { key @3 :Key; value @4 :Value; } nothing @5 :Void; }
}

const origin :Point = (x = 0, y = 0);
const names :List(Text) = ["a", "b"];
const favourite :Colour = green;
const bytes :Data = 0x"01 02";
const infinite :Float32 = -inf;
const deep :List(List(UInt8)) = [[1], [2, 3]];
const everything :Everything = (text = "x", list = [[["y"]]]);

annotation note(*) :Text;
