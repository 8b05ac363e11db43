@0xd1b2c3a495867704;
# A contract over several files.
using Selfsame = import "/selfsame.capnp";
using Base = import "parts/base.capnp";
using T = import "/my-Types.capnp";

interface Article extends(Base.Counted, Base.Priced) $Selfsame.Raises(Base.Failure).it {
  # A diamond.

  describe @0 (point :T.Point, map :T.Map(Text, List(T.Colour))) -> (text :Text);
  # Describes it.
  change @1 T.Everything -> T.Map(Text, List(T.Point)).Entry;
  # Structs as messages, one of them generic.
  forget @2 () -> () $Selfsame.retry(never);
}

struct Sold $Selfsame.topic("shop.sold") {
  # Somebody bought.
  article @0 :Text $Selfsame.key;
  count @1 :UInt32;
}
struct Painted $Selfsame.topic("shop.painted") { colour @0 :T.Colour $Selfsame.key; }
struct Opened $Selfsame.topic("shop.opened") {}
struct Flag $Selfsame.topic("shop.flag") { struct Raised $Selfsame.topic("shop.flag.raised") { up @0 :Bool $Selfsame.key; } n @0 :Int8 $Selfsame.key; }
