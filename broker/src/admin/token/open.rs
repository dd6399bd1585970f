//! Tokens that nobody used yet: listed, and revoked before their time.

use std::fmt;
use std::str::FromStr;

use super::allowance;
use crate::admin::Actor;
use crate::admin::change::{Draft, commit};
use crate::admin::reach::Scope;
use crate::plant::Plant;
use crate::record::device::{TOKEN, Token, token_key};
use crate::record::{Held, fetch};
use crate::session::Refusal;
use crate::store::Txn;
use crate::store::record::decode;

/// Tokens on one page.
const PAGE: usize = 500;
/// Hex digits of an id.
const DIGITS: usize = 32;

/// What a token is called; it is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenId(String);

/// It is no id of a token.
#[derive(Debug, thiserror::Error)]
#[error("write the {DIGITS} hex digits that `touchstone token list` shows")]
pub struct TokenIdError;

impl FromStr for TokenId {
    type Err = TokenIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let good = text.len() == DIGITS && text.bytes().all(hex);
        good.then(|| Self(text.to_owned())).ok_or(TokenIdError)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token that nobody used yet.
#[derive(Debug, Clone)]
pub struct Open {
    /// What it is called.
    pub id: TokenId,
    /// What it allows, and who made it.
    pub token: Token,
}

/// One page of the tokens that `scope` sees and that still hold, by id, and where the next one begins.
pub async fn page(
    plant: &Plant,
    scope: &Scope,
    after: Option<&TokenId>,
) -> Result<(Vec<Open>, Option<TokenId>), Refusal> {
    let after = after.map(|id| token_key(&id.0));
    let found = plant.store.scan(TOKEN, after.as_deref(), PAGE).await?;
    let full = found.len() >= PAGE;
    let (mut page, mut last) = (Vec::new(), None);
    for (key, value) in found {
        let token: Token = decode(&key, &value.value).map_err(Refusal::internal)?;
        let id: TokenId = key.strip_prefix(TOKEN).unwrap_or_default().parse().map_err(Refusal::internal)?;
        last = Some(id.clone());
        if plant.now() <= token.expires && scope.sees(&token.zones) {
            page.push(Open { id, token });
        }
    }
    Ok((page, last.filter(|_| full)))
}

/// Ends a token, or, for a dry run, says which one that would be.
pub async fn revoke(plant: &Plant, actor: &Actor, id: &TokenId, dry_run: bool) -> Result<Open, Refusal> {
    commit(plant, || take_away(plant, actor, id, dry_run)).await
}

async fn take_away(
    plant: &Plant,
    actor: &Actor,
    id: &TokenId,
    dry_run: bool,
) -> Result<Draft<Open>, Refusal> {
    let held: Option<Held<Token>> = fetch(plant.store.as_ref(), token_key(&id.0)).await?;
    let Held { key, version, record } = held.ok_or_else(|| {
        Refusal::NotFound(format!(
            "there is no join token {id}: it was used, revoked or expired; `touchstone token list` shows those that hold"
        ))
    })?;
    let reach = actor.reach(plant, &record.zones).await?;
    let text = format!("the join token of {} is revoked: {}", record.by, allowance(&record));
    let txn = Txn::new().unchanged(key.clone(), version).delete(key);
    let revoked = Open { id: id.clone(), token: record };
    Ok(Draft::unless(dry_run, revoked, txn, reach.deed(&id.0, &text)))
}
