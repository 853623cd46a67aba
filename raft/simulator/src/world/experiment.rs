//! What experiments do to a world, beyond its plan.

use simulation::Time;

use super::World;
use crate::check::Broken;

impl World {
    /// A node dies and does not come back.
    pub(crate) fn kill(&mut self, node: usize) {
        self.down(node);
    }

    /// Goes on until somebody serves who did not at `since`, or until `until`.
    pub(crate) fn run_until_served(&mut self, since: Time, until: Time) -> Result<(), Broken> {
        let served = |world: &World| {
            world
                .healing
                .elected_and_served()
                .1
                .is_some_and(|at| at > since)
        };
        while !served(self) && self.events.next_at().is_some_and(|at| at <= until) {
            let (at, event) = self.events.pop().expect("there is one");
            self.now = at;
            self.handle(event)?;
        }
        Ok(())
    }

    /// When somebody was elected and began to serve after that moment.
    pub(crate) fn elected_and_served(&self, after: Time) -> (Option<Time>, Option<Time>) {
        let (elected, served) = self.healing.elected_and_served();
        (
            elected.filter(|at| *at > after),
            served.filter(|at| *at > after),
        )
    }
}
