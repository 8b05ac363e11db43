@0x98ae952e75c8f3d6;
# A service that is made of others: the contract of examples/login.

interface Login {
  # Lets users in.

  enter @0 (user :Text, password :Text) -> (version :UInt32);
  # Renews the user's password, and leaves a trace of it with the audit.
}

interface Audit {
  # Remembers what happened.

  record @0 (what :Text) -> (number :UInt64);
  # Writes down what happened, and answers the number under which it stands.
}
