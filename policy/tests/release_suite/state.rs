//! The life of a release has these steps and no others.

use policy::reference::state::{ReleaseState, Standing, TransitionError};
use policy::time::UnixTime;
use proptest::prelude::*;

use ReleaseState::{Active, Deprecated, Pending, Retired, Withdrawn};

const T: UnixTime = UnixTime(1_000);
const OLD: ReleaseState = Deprecated { until: T };

#[test]
fn every_pair_of_states_is_a_step_or_is_refused() {
    let states = [Pending, Active, OLD, Retired, Withdrawn];
    let steps: Vec<(usize, usize)> = (0..states.len())
        .flat_map(|from| (0..states.len()).map(move |to| (from, to)))
        .filter(|(from, to)| states[*from].change_to(states[*to]).is_ok())
        .collect();
    assert_eq!(steps, [(0, 1), (0, 4), (1, 2), (1, 4), (2, 1), (2, 3), (2, 4), (3, 4)]);
}

#[test]
fn a_refused_step_says_which_to_take() {
    assert_eq!(Active.change_to(Active), Err(TransitionError::Already(Active)));
    assert_eq!(Withdrawn.change_to(Active), Err(TransitionError::Withdrawn));
    let error = Active.change_to(Retired).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a release that is active cannot become retired; deprecate it with a date first, or withdraw it"
    );
}

#[test]
fn a_deprecated_release_stands_until_its_last_second() {
    assert_eq!(OLD.standing(T), Standing::Accepted { until: Some(T) });
    assert_eq!(OLD.standing(T.plus(1)), Standing::NotAccepted);
    assert_eq!(Active.standing(T), Standing::Accepted { until: None });
    for (state, standing) in
        [(Pending, Standing::NotAccepted), (Retired, Standing::NotAccepted), (Withdrawn, Standing::Withdrawn)]
    {
        assert_eq!(state.standing(T), standing);
    }
}

fn any_state() -> impl Strategy<Value = ReleaseState> {
    prop_oneof![
        Just(Pending),
        Just(Active),
        (0_u64..3000).prop_map(|t| Deprecated { until: UnixTime(t) }),
        Just(Retired),
        Just(Withdrawn),
    ]
}

proptest! {
    #[test]
    fn no_life_leaves_withdrawn_and_none_returns_to_pending(
        steps in prop::collection::vec(any_state(), 0..20),
        now in 0_u64..3000,
    ) {
        let (mut state, mut withdrawn, mut retired) = (Pending, false, false);
        for to in steps {
            let before = state;
            match state.change_to(to) {
                Ok(next) => { prop_assert_eq!(next, to); state = next; }
                Err(_) => prop_assert_eq!(state, before),
            }
            prop_assert!(!withdrawn || state == Withdrawn);
            prop_assert!(!retired || matches!(state, Retired | Withdrawn));
            prop_assert!(before == Pending || state != Pending);
            withdrawn |= state == Withdrawn;
            retired |= state == Retired;
        }
        let accepted = matches!(state.standing(UnixTime(now)), Standing::Accepted { .. });
        let expected = match state {
            Active => true,
            Deprecated { until } => now <= until.0,
            Pending | Retired | Withdrawn => false,
        };
        prop_assert_eq!(accepted, expected);
    }

    #[test]
    fn a_stored_state_reads_back(state in any_state()) {
        let json = serde_json::to_string(&state).unwrap();
        prop_assert_eq!(serde_json::from_str::<ReleaseState>(&json).unwrap(), state);
    }
}
