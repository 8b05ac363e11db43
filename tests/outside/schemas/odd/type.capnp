@0xd1b2c3a495868806;
struct F {}
