@0xd0b5c9e2a7f1386d;
# The same echo for capnp-rpc.

interface Plain {
  carry @0 (sequence :UInt64, payload :Data) -> (sequence :UInt64, payload :Data);
}
