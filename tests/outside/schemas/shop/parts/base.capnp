@0xd1b2c3a495867703;
using Selfsame = import "/selfsame.capnp";
interface Named {
  # Has a name.
  name @0 () -> (name :Text) $Selfsame.retry(readOnly);
}
interface Counted extends(Named) { count @0 () -> (count :UInt64) $Selfsame.retry(readOnly); }
interface Priced extends(Named) $Selfsame.retry(idempotent) {
  price @0 () -> (price :UInt64);
  count @1 () -> (coins :UInt64) $Selfsame.retry(never);
}
struct Failure { union { none @0 :Void; noSuchArticle @1 :UInt32; other :group { why @2 :Text; } } }
