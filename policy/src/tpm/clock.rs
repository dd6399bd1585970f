//! The TPM's clock and counters (TPM 2.0 Part 1, 36; Part 2, 10.11.1).
//!
//! Order between two proofs of one device comes from the counters, never from a wall clock. The
//! counters are true only under an attestation key of the endorsement hierarchy; under any other
//! the TPM obfuscates them (TPM 2.0 Part 1, 36.7), and only equality means something.

/// `TPMS_CLOCK_INFO` as a quote carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds that the TPM was powered since its last Clear.
    pub clock_ms: u64,
    /// TPM Resets since the last Clear: one for each boot from power-off.
    pub reset_count: u32,
    /// TPM Restarts and Resumes since the last TPM Reset: one for each wake-up.
    pub restart_count: u32,
    /// False when the clock may have shown a larger value before, as after a power cut.
    pub safe: bool,
}

/// How a new clock follows an earlier one of the same TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockOrder {
    /// The same boot, later or at the same millisecond.
    Continues,
    /// A later boot or wake-up: sessions of the old one end and logs are appraised from their
    /// beginning. The clock may have fallen; a power cut does that.
    Rebooted,
    /// No run of this TPM gives this order.
    Alarm(ClockAlarm),
}

/// Why an order of clocks is alarming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClockAlarm {
    /// Fewer resets than before.
    #[error(
        "the TPM's reset count fell from {from} to {to}: it was cleared or this is a copy; announce the clear or quarantine the device"
    )]
    ResetCountFell {
        /// Count before.
        from: u32,
        /// Count now.
        to: u32,
    },
    /// Fewer restarts than before without a reset between.
    #[error(
        "the TPM's restart count fell from {from} to {to} without a reset: two TPMs answer under one identity; quarantine the device"
    )]
    RestartCountFell {
        /// Count before.
        from: u32,
        /// Count now.
        to: u32,
    },
    /// An earlier clock within one boot.
    #[error(
        "the TPM's clock fell from {from} to {to} ms within one boot: two TPMs answer under one identity; quarantine the device"
    )]
    ClockFell {
        /// Milliseconds before.
        from: u64,
        /// Milliseconds now.
        to: u64,
    },
}

impl ClockOrder {
    /// Compares the clock last accepted with a new one.
    ///
    /// Equal clocks continue: the clock counts milliseconds and a virtual TPM quotes in less.
    #[must_use]
    pub fn of(before: &ClockInfo, now: &ClockInfo) -> Self {
        if now.reset_count != before.reset_count {
            let (from, to) = (before.reset_count, now.reset_count);
            return if to > from {
                Self::Rebooted
            } else {
                Self::Alarm(ClockAlarm::ResetCountFell { from, to })
            };
        }
        if now.restart_count != before.restart_count {
            let (from, to) = (before.restart_count, now.restart_count);
            return if to > from {
                Self::Rebooted
            } else {
                Self::Alarm(ClockAlarm::RestartCountFell { from, to })
            };
        }
        if now.clock_ms < before.clock_ms {
            return Self::Alarm(ClockAlarm::ClockFell { from: before.clock_ms, to: now.clock_ms });
        }
        Self::Continues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn clock(reset_count: u32, restart_count: u32, clock_ms: u64) -> ClockInfo {
        ClockInfo { clock_ms, reset_count, restart_count, safe: true }
    }

    fn alarm(before: &ClockInfo, now: &ClockInfo) -> ClockAlarm {
        match ClockOrder::of(before, now) {
            ClockOrder::Alarm(alarm) => alarm,
            other => panic!("no alarm: {other:?}"),
        }
    }

    #[test]
    fn within_one_boot_the_clock_never_falls() {
        let before = clock(5, 1, 1000);
        assert_eq!(ClockOrder::of(&before, &clock(5, 1, 1001)), ClockOrder::Continues);
        assert_eq!(ClockOrder::of(&before, &clock(5, 1, 1000)), ClockOrder::Continues);
        let fell = alarm(&before, &clock(5, 1, 999));
        assert_eq!(fell, ClockAlarm::ClockFell { from: 1000, to: 999 });
    }

    /// After a power cut the clock shows an older value and is not safe: ordinary in a plant.
    #[test]
    fn after_a_power_cut_the_clock_may_fall() {
        let before = clock(5, 1, 69_142);
        for safe in [true, false] {
            let now = ClockInfo { safe, ..clock(6, 0, 552) };
            assert_eq!(ClockOrder::of(&before, &now), ClockOrder::Rebooted);
        }
        let unsafe_but_same_boot = ClockInfo { safe: false, ..clock(5, 1, 552) };
        assert_eq!(
            alarm(&before, &unsafe_but_same_boot),
            ClockAlarm::ClockFell { from: 69_142, to: 552 },
            "nothing excuses a fall within one boot"
        );
    }

    #[test]
    fn after_a_wake_up_logs_begin_anew() {
        let before = clock(5, 1, 1000);
        for clock_ms in [10, 2000] {
            assert_eq!(ClockOrder::of(&before, &clock(5, 2, clock_ms)), ClockOrder::Rebooted);
        }
        let fell = alarm(&before, &clock(5, 0, 2000));
        assert_eq!(fell, ClockAlarm::RestartCountFell { from: 1, to: 0 });
    }

    /// Resets are compared before restarts, and both before the clock.
    #[test]
    fn a_fallen_reset_count_is_an_alarm_whatever_else_rose() {
        let fell = alarm(&clock(5, 1, 1000), &clock(4, 9, 2000));
        assert_eq!(fell, ClockAlarm::ResetCountFell { from: 5, to: 4 });
        let cleared = alarm(&clock(5, 1, 1000), &clock(0, 0, 3));
        assert_eq!(cleared, ClockAlarm::ResetCountFell { from: 5, to: 0 });
        assert_eq!(ClockOrder::of(&clock(5, 9, 2000), &clock(6, 0, 0)), ClockOrder::Rebooted);
        assert_eq!(ClockOrder::of(&clock(u32::MAX - 1, 0, 0), &clock(u32::MAX, 0, 0)), ClockOrder::Rebooted);
    }
}
