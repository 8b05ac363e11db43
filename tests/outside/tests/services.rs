//! Generated services, called without a socket: the code does what it says, not only compile.

use std::sync::Arc;

use house_contracts::api::house::common;
use house_contracts::api::house::common::health::Check;
use outside::api::nurse::nurse::Heal;
use outside::api::nurse::{Nurse, NurseClient};
use outside::api::shop::parts::base::{Counted, Named, Priced, counted, named, priced};
use outside::api::shop::shop::article::{Change, Describe, Forget};
use outside::api::shop::shop::{Article, ArticleClient};
use selfsame::{Answer, Kind, Outcome, Request};

struct Book;

impl Named for Book {
    async fn name(&self, request: Request<named::Name>) -> Answer<named::Name> {
        request.reply(|mut reply| reply.set_name("book"))
    }
}

impl Counted for Book {
    async fn count(&self, request: Request<counted::Count>) -> Answer<counted::Count> {
        request.reply(|mut reply| reply.set_count(7))
    }
}

impl Priced for Book {
    async fn price(&self, request: Request<priced::Price>) -> Answer<priced::Price> {
        request.reply(|mut reply| reply.set_price(12))
    }

    async fn count(&self, request: Request<priced::Count>) -> Answer<priced::Count> {
        request.reply(|mut reply| reply.set_coins(3))
    }
}

impl Article for Book {
    async fn describe(&self, request: Request<Describe>) -> Answer<Describe> {
        let text = request.read(|p| Ok(format!("at {}", p.get_point()?.get_x())))?;
        request.reply(|mut reply| reply.set_text(&text))
    }

    async fn change(&self, request: Request<Change>) -> Answer<Change> {
        let street = request.read(|p| p.get_address().get_street()?.to_string().map_err(Into::into))?;
        request.reply(|mut reply| reply.set_key(&street[..]))
    }

    async fn forget(&self, request: Request<Forget>) -> Answer<Forget> {
        Err(request.decline(|mut fault| fault.set_no_such_article(5)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn inherited_methods_reach_their_handlers() {
    let article = ArticleClient::local(Arc::new(Book));
    assert_eq!(article.name(|_| ()).await.unwrap().get().unwrap().get_name().unwrap(), "book");
    assert_eq!(article.count(|_| ()).await.unwrap().get().unwrap().get_count(), 7);
    assert_eq!(article.price(|_| ()).await.unwrap().get().unwrap().get_price(), 12);
    // Both bases have a `count`; the second bears its interface's name.
    assert_eq!(article.priced_count(|_| ()).await.unwrap().get().unwrap().get_coins(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_all_kinds_arrive() {
    let article = ArticleClient::local(Book);
    let described = article.describe(|p| p.init_point().set_x(4)).await.unwrap();
    assert_eq!(described.get().unwrap().get_text().unwrap(), "at 4");
    let changed = article.change(|p| p.init_address().set_street("Lane")).await.unwrap();
    assert_eq!(changed.get().unwrap().get_key().unwrap(), "Lane");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_is_typed() {
    let error = ArticleClient::local(Book).forget(|_| ()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome(), error.method()), (Kind::Declined, Outcome::Yes, "Article.forget"));
    let fault = error.fault::<outside::api::shop::parts::base::Failure>().unwrap();
    use outside::api::shop::parts::base::failure::Which;
    assert!(matches!(fault.get().unwrap().which(), Ok(Which::NoSuchArticle(5))));
}

struct Ann;

impl common::Health for Ann {
    async fn check(&self, request: Request<Check>) -> Answer<Check> {
        request.reply(|reply| reply.init_items(3).get(2).set_state(common::State::Ill))
    }
}

impl Nurse for Ann {
    async fn heal(&self, request: Request<Heal>) -> Answer<Heal> {
        let name = request.read(|p| p.get_boxed()?.get_value()?.get_name()?.to_string().map_err(Into::into))?;
        request.reply(|mut reply| reply.set_value(&name[..]))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_extends_another_crates() {
    let nurse = NurseClient::local(Ann);
    let checked = nurse.check(|_| ()).await.unwrap();
    let item = checked.get().unwrap().get_items().unwrap().get(2);
    assert_eq!(item.get_state(), Ok(common::State::Ill));
    let healed = nurse.heal(|p| p.init_boxed().init_value().set_name("knee")).await.unwrap();
    assert_eq!(healed.get().unwrap().get_value().unwrap(), "knee");
}
