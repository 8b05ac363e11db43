@0x86c366a91393f3f8;
# What `-> stream` refers to. Present so that a method that streams is refused by its name, not for want of this file.

struct StreamResult @0x995f9a3377c0b16e {}
