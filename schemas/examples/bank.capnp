@0xb9a5ff50f36e21f6;
# Money that moves: the contract of examples/transfer.

using Selfsame = import "/selfsame.capnp";

interface Bank $Selfsame.Raises(TooLittle).it {
  # Keeps accounts.

  transfer @0 (number :UInt32, from :UInt32, to :UInt32, amount :UInt32) -> (left :Int64);
  # Moves an amount, and answers what is left where it came from. The number is the payer's, to find the transfer by.
}

struct TooLittle {
  # The typed no of this contract: the account has less than that.
  balance @0 :Int64;
}
