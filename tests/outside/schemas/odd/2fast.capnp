@0xd1b2c3a495868805;
struct F {}
