@0xd1b2c3a495867706;
# A contract that rests on another crate's.
using Selfsame = import "/selfsame.capnp";
using House = import "/house/common.capnp";

interface Nurse extends(House.Health) $Selfsame.Raises(House.Refused).it {
  heal @0 (items :List(House.Item), boxed :House.Boxed(House.Item)) -> House.Boxed(Text);
}
struct Healed $Selfsame.topic("nurse.healed") { item @0 :House.Item; state @1 :House.State $Selfsame.key; }
