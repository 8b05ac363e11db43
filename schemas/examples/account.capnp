@0xea296cd709909db9;
# Who is who: the contract of examples/account_server.

using Selfsame = import "/selfsame.capnp";

interface Account $Selfsame.Raises(NoSuchUser).it {
  # Keeps the users' passwords.

  changePassword @0 (user :Text, password :Text) -> (version :UInt32);
  # Sets a password, and answers how often the user has set one: a second effect would show.

  version @1 (user :Text) -> (version :UInt32) $Selfsame.retry(readOnly);
  # How often the user has set a password.
}

struct NoSuchUser {
  # The typed no of this contract.
  user @0 :Text;
}

struct PasswordChanged $Selfsame.topic("account.password") {
  # Somebody has set a password.
  user @0 :Text $Selfsame.key;
  version @1 :UInt32;
}
