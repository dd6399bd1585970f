//! Join tokens that nobody used yet: who sees them, who ends them.

use super::{Bench, NOW, observing, refused};
use crate::admin::token::{self, TokenId, page, revoke};
use crate::admin::{Act, Actor, authorize};
use crate::record::plant::AdminRole;

/// Makes a token; its id.
async fn make(bench: &Bench, zones: &[&str], lifetime: u64) -> TokenId {
    let zones = zones.iter().map(|zone| zone.parse().unwrap()).collect();
    let request = token::Request { zones, ek: None, device: None, lifetime, without_tpm: false };
    let created = token::create(&bench.plant, &bench.actor(Act::CreateToken).await, &request).await.unwrap();
    created.text.split('.').nth(1).unwrap().parse().unwrap()
}

async fn bench() -> Bench {
    let bench = Bench::new().await;
    for zone in ["cell-3", "cell-4"] {
        bench.zone(&observing(zone)).await;
    }
    bench
}

/// An operator who is limited to cell-3.
async fn limited(bench: &Bench, act: Act) -> Actor {
    let peer = bench.administrator("opal", AdminRole::Operator, Some(&["cell-3"])).await;
    authorize(&bench.plant, &peer, act).await.unwrap()
}

async fn listed(bench: &Bench, actor: &Actor) -> Vec<TokenId> {
    let (tokens, next) = page(&bench.plant, actor.scope(), None).await.unwrap();
    assert_eq!(next, None, "one page");
    tokens.into_iter().map(|open| open.id).collect()
}

#[tokio::test]
async fn tokens_are_listed_while_they_hold_to_those_who_see_their_zones() {
    let bench = bench().await;
    let (mine, other) = (make(&bench, &["cell-3"], 60).await, make(&bench, &["cell-4"], 7200).await);
    let mut both = vec![mine.clone(), other.clone()];
    both.sort_by_key(ToString::to_string);
    let ada = bench.actor(Act::ReadDevices).await;
    assert_eq!(listed(&bench, &ada).await, both);
    assert_eq!(listed(&bench, &limited(&bench, Act::ReadDevices).await).await, [mine]);
    bench.clock.set(NOW.plus(61));
    assert_eq!(listed(&bench, &ada).await, [other], "the other has expired");
}

#[tokio::test]
async fn a_token_is_revoked_by_whoever_reaches_all_its_zones_and_is_on_record() {
    let bench = bench().await;
    let opal = limited(&bench, Act::RevokeToken).await;
    let wide = make(&bench, &["cell-3", "cell-4"], 0).await;
    let text = refused!(revoke(&bench.plant, &opal, &wide, false).await, NotPermitted);
    assert_eq!(text, "token.revoke touches zone cell-4; opal is limited to cell-3");

    let mine = make(&bench, &["cell-3"], 0).await;
    let before = bench.revision();
    assert_eq!(revoke(&bench.plant, &opal, &mine, true).await.unwrap().id, mine);
    assert_eq!(bench.revision(), before, "a dry run changes nothing");
    assert_eq!(revoke(&bench.plant, &opal, &mine, false).await.unwrap().token.by, "ada");
    assert_eq!(listed(&bench, &bench.actor(Act::ReadDevices).await).await, [wide]);
    let event = bench.events(None, 1).await.remove(0);
    assert_eq!((event.actor.as_str(), event.action.as_str()), ("opal", "token.revoke"));
    assert_eq!(event.subject, mine.to_string());
    let until = NOW.plus(86_400);
    let text = format!("the join token of ada is revoked: one device may join cell-3 until {until}");
    assert_eq!(event.text, text);

    let text = refused!(revoke(&bench.plant, &opal, &mine, false).await, NotFound);
    assert!(text.contains("it was used, revoked or expired"), "{text}");
}

#[test]
fn an_id_is_32_hex_digits() {
    for bad in ["", "ab", "ts1.00.11", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33)] {
        assert!(bad.parse::<TokenId>().is_err(), "{bad}");
    }
}
