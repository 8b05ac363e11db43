@0xc0de000000000002;
using Selfsame = import "/selfsame.capnp";
using Base = import "/base.capnp";

interface Article extends(Base.Named, Base.Closable) $Selfsame.Raises(Failure).it {
  # Something to buy.
  #
  #     With an indented line, which is no doc test.

  type @0 (async :Bool) -> (status :Status);
  # A keyword, and a result named like a type.

  status @1 Order(Text) -> Failure $Selfsame.retry(idempotent);

  enum Status { inStock @0; soldOut @1; }
  struct Order(Note) { count @0 :UInt32 = 1; note @1 :Note; }
}

struct Failure { why @0 :Text; }
