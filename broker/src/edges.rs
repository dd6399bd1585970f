//! Edges of conduits' hours: when one passes, the trust head is raised, so that devices are told at once.
//!
//! Promises: no edge is passed over, also when the clock is set back: its hours come again, and so do their edges.
//! Devices that are not told open and close by their own clocks.

use std::sync::Arc;
use std::time::Duration;

use policy::time::UnixTime;

use crate::audit::Event;
use crate::plant::Plant;
use crate::session::{Refusal, complete::commit};
use crate::store::Txn;
use crate::trust;

/// Looked at anew this often, since conduits come and go.
const LOOK: Duration = Duration::from_secs(1);

/// Tells every edge, for ever.
pub(crate) async fn tell(plant: Arc<Plant>) {
    // What another broker, or an earlier start, did not come to tell is told now.
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let now = plant.now();
        let Ok(view) = trust::view(&plant).await else { continue };
        let told = told.get_or_insert_with(|| Told::until(view.raised_at()));
        if !told.lacks_edge(&view, now, |after| view.next_edge(after)) {
            continue;
        }
        match raise(&plant, now).await {
            Ok(()) => *told = Told::until(now),
            Err(error) => tracing::warn!(%error, "an edge of a conduit is told with the next try"),
        }
    }
}

async fn raise(plant: &Plant, now: UnixTime) -> Result<(), Refusal> {
    let text = "a conduit opened or closed by the clock";
    let event = Event::new(now, "broker", "conduit.edge", "plant", text);
    commit(plant, trust::raise(plant, Txn::new(), now).await?.audit(event.entry())).await
}

/// Up to when every edge is told.
#[derive(Debug)]
struct Told<V> {
    until: UnixTime,
    /// The next edge after that, in the view that it was found in.
    next: Option<(Arc<V>, Option<UnixTime>)>,
}

impl<V> Told<V> {
    const fn until(until: UnixTime) -> Self {
        Self { until, next: None }
    }

    /// Whether an edge passed, in `view` and by `now`, that is not told.
    fn lacks_edge(
        &mut self,
        view: &Arc<V>,
        now: UnixTime,
        next_edge: impl FnOnce(UnixTime) -> Option<UnixTime>,
    ) -> bool {
        if now < self.until {
            *self = Self::until(now);
        }
        // The next edge of ten thousand conduits takes longer than a look is worth.
        let edge = match &self.next {
            Some((of, edge)) if Arc::ptr_eq(of, view) => *edge,
            _ => next_edge(self.until),
        };
        self.next = Some((Arc::clone(view), edge));
        edge.is_some_and(|edge| edge <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first edge after `after`: every hundred seconds.
    fn edge(after: UnixTime) -> Option<UnixTime> {
        Some(UnixTime((after.0 / 100 + 1) * 100))
    }

    fn lacks(told: &mut Told<()>, view: &Arc<()>, now: u64) -> bool {
        told.lacks_edge(view, UnixTime(now), edge)
    }

    #[test]
    fn an_edge_is_told_once_and_late_rather_than_never() {
        let (mut told, view) = (Told::until(UnixTime(250)), Arc::new(()));
        assert!(!lacks(&mut told, &view, 299));
        assert!(lacks(&mut told, &view, 300));
        assert!(lacks(&mut told, &Arc::new(()), 301), "it could not be told, and other things changed");
        let mut told = Told::until(UnixTime(301));
        assert!(!lacks(&mut told, &view, 399));
        assert!(lacks(&mut told, &view, 1_000), "the clock was set ahead");
    }

    #[test]
    fn a_clock_that_is_set_back_meets_its_edges_again() {
        let (mut told, view) = (Told::until(UnixTime(950)), Arc::new(()));
        assert!(!lacks(&mut told, &view, 999));
        assert!(!lacks(&mut told, &view, 250), "set back; the next edge that was known is 1000");
        assert!(lacks(&mut told, &view, 300));
        let mut told = Told::until(UnixTime(300));
        assert!(!lacks(&mut told, &view, 300) && !lacks(&mut told, &view, 200), "no edge is told for ever");
        assert!(lacks(&mut told, &view, 300), "it came again");
    }

    #[test]
    fn who_has_no_hours_has_no_edges() {
        let view = Arc::new(());
        assert!(!Told::until(UnixTime(0)).lacks_edge(&view, UnixTime(u64::MAX), |_| None));
    }
}
