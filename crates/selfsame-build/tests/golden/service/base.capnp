@0xc0de000000000001;
# What services have in common.

using Selfsame = import "/selfsame.capnp";

interface Named {
  name @0 () -> (name :Text) $Selfsame.retry(readOnly);
  # What it is called.
}

interface Closable extends(Named) $Selfsame.retry(never) {
  close @0 () -> ();
}
