//! What needs a person because of release keys.

use policy::reference::state::Standing;

use super::{Need, in_use};
use crate::admin::golden::held;
use crate::admin::status::Attention;
use crate::golden;
use crate::plant::Plant;
use crate::release_keys::KeyRing;
use crate::session::Refusal;

/// Products that too few keys can sign, and releases that would be accepted if their signatures counted.
pub async fn attention(plant: &Plant) -> Result<Vec<Attention>, Refusal> {
    let keys = KeyRing::read(plant.store.as_ref()).await?;
    let needs = in_use(plant).await?.into_iter().map(|product| Need::of(&keys, product));
    let mut all: Vec<Attention> = needs.filter(Need::is_short).map(|need| of_product(&need)).collect();
    let golden = golden::current(plant).await.map_err(Refusal::internal)?;
    for held in held(plant).await? {
        let Some(id) = held.record.id() else { continue };
        let accepted = matches!(held.record.state.standing(plant.now()), Standing::Accepted { .. });
        if let Some(why) = golden.void.get(&id).filter(|_| accepted) {
            all.push(Attention {
                message: format!(
                    "{id} counts for nothing: {why}; sign it again and apply it, or withdraw it"
                ),
                next_command: format!("touchstone golden show {id}"),
                subject: id.to_string(),
                ..Attention::default()
            });
        }
    }
    Ok(all)
}

fn of_product(Need { product, needed, available }: &Need) -> Attention {
    Attention {
        subject: product.to_string(),
        message: format!(
            "{product} has {available} of the {needed} release keys that a release of it needs, so none can be applied"
        ),
        next_command: format!("touchstone golden key add NAME --public FILE --product {product}"),
        ..Attention::default()
    }
}
