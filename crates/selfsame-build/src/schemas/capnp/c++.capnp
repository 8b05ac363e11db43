@0xbdf87d7bb8304e81;
# The annotations by which schemas address Cap'n Proto's C++ generator. They mean nothing to selfsame; that they can be
# imported where Cap'n Proto's own copy of this file is not installed, is all.

annotation namespace @0xb9c6f99ebf805f2c (file) :Text;
annotation name @0xf264a779fef191ce (field, enumerant, struct, enum, interface, method, param, group, union) :Text;
annotation allowCancellation @0xac7096ff8cfc9dce (interface, method, file) :Void;
