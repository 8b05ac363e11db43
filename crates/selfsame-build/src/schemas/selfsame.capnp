@0xab04c578ff8d8e94;
# The annotations of a selfsame contract. Embedded in selfsame-build: `using Selfsame = import "/selfsame.capnp";`
# works wherever your schemas lie.

enum RetryClass {
  # What a method promises to its callers about being called again.
  once @0;        # Retried under the same nonce; the server keeps a record: one effect. The default.
  idempotent @1;  # Running it twice is the same as running it once: retried freely, no record.
  readOnly @2;    # Has no effect: retried freely, no record.
  never @3;       # Sent once and never again; a lost reply leaves the outcome unknown.
}

annotation retry @0xecfc5bffb39ddb6d (method, interface) :RetryClass;
# The retry class of a method, or of all methods of an interface that do not say their own.

struct Raises @0xb4db5523bf1aa91e (Fault) {
  # `$Selfsame.Raises(OrderFailure).it` on a method or an interface: the struct of its typed no (`declined`).
  annotation it @0xe41c0e150013bfb8 (method, interface) :Void;
}

annotation topic @0xf264c0ee7f95e0df (struct) :Text;
# Makes a struct an event, published under this topic. A name of at most 200 bytes without `/`, `*` or white space, and which
# does not begin with `selfsame`: such names are the library's own.

annotation key @0x8a7f2bb213e12cc4 (field) :Void;
# The field of an event by which subscribers may filter: Text, an integer, a Bool or an enum.
