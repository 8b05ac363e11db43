//! Handlers called directly, as the tests of a service call them: no server, no socket, and all that an answer says can be looked at.

#[path = "../examples/contracts/mod.rs"]
#[allow(dead_code)]
mod api;

use std::error::Error;
use std::time::Duration;

use api::account::account::{ChangePassword, Version};
use api::account::{Account, NoSuchUser};
use selfsame::{Answer, Fault, FaultKind, Principal, Request, TestContext};

struct Vault;

impl Account for Vault {
    async fn change_password(&self, request: Request<ChangePassword>) -> Answer<ChangePassword> {
        let user = request.read(|p| Ok(p.get_user()?.to_string()?))?;
        match user.as_str() {
            "nobody" => return Err(request.decline(|mut fault| fault.set_user("nobody"))),
            "broken" => return Err(Fault::failed("the disk is full")),
            "busy" => return Err(Fault::unavailable("not now")),
            "halfway" => return Err(Fault::interrupted("the plug")),
            _ => {}
        }
        let allowed =
            request.principal().name() == Some(&user) && request.metadata().text("tenant") == Some("blue");
        request.reply(|mut reply| reply.set_version(u32::from(allowed)))
    }

    async fn version(&self, request: Request<Version>) -> Answer<Version> {
        request.reply(|mut reply| reply.set_version(7))
    }
}

async fn fault(user: &str) -> Fault<NoSuchUser> {
    Vault.change_password(Request::<ChangePassword>::test(|mut p| p.set_user(user))).await.unwrap_err()
}

#[tokio::test]
async fn a_reply_is_read() -> Result<(), Box<dyn Error>> {
    let reply = Vault.version(Request::<Version>::test(|mut p| p.set_user("ann"))).await?.message()?;
    assert_eq!(reply.get()?.get_version(), 7);
    Ok(())
}

#[tokio::test]
async fn a_fault_tells_what_the_handler_decided() {
    let declined = fault("nobody").await;
    assert_eq!(declined.kind(), FaultKind::Declined);
    assert_eq!(declined.typed().unwrap().get().unwrap().get_user().unwrap(), "nobody");
    for (user, kind, text) in [
        ("broken", FaultKind::Failed, "failed: the disk is full"),
        ("busy", FaultKind::Unavailable, "unavailable: not now"),
        ("halfway", FaultKind::Interrupted, "interrupted: the plug"),
    ] {
        let fault = fault(user).await;
        assert_eq!((fault.kind(), fault.to_string().as_str()), (kind, text));
        assert!(fault.typed().is_none(), "{user}");
    }
}

#[tokio::test]
async fn a_test_says_who_calls_with_what_and_until_when() -> Result<(), Box<dyn Error>> {
    let request = |context| Request::<ChangePassword>::test_with(context, |mut p| p.set_user("ann"));
    let ann = TestContext::new().principal(Principal::named("ann")).metadata("tenant", "blue");
    let reply = Vault.change_password(request(ann.clone())).await?.message()?;
    assert_eq!(reply.get()?.get_version(), 1);
    let bob = ann.principal(Principal::named("bob"));
    let reply = Vault.change_password(request(bob)).await?.message()?;
    assert_eq!(reply.get()?.get_version(), 0);

    let plain = request(TestContext::new());
    assert!(plain.principal().is_anonymous() && plain.metadata().is_empty());
    assert!(plain.time_left() > Duration::from_secs(30));
    assert!(request(TestContext::new().deadline(Duration::ZERO)).time_left().is_zero());
    assert_ne!(plain.nonce(), request(TestContext::new()).nonce());
    Ok(())
}
