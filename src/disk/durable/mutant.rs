//! Which sync the simulator has taken away from this thread.

use std::cell::Cell;

use super::Step;

thread_local! {
    static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
}

/// Whether this thread leaves the sync of this step out.
pub(super) fn is_left_out(step: Step) -> bool {
    LEFT_OUT.get() == Some(step)
}

/// Runs `work` without the sync of `step`; `None` leaves nothing out.
pub fn without<T>(step: Option<Step>, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Step>);
    impl Drop for Restore {
        fn drop(&mut self) {
            LEFT_OUT.set(self.0);
        }
    }
    let _restore = Restore(LEFT_OUT.replace(step));
    work()
}
