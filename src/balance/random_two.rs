//! Power of two choices: two endpoints by chance, of which the one with less under way wins
//! (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).

use super::balancer::{Balancer, View};
use super::random::choose;
use crate::base::id::EndpointId;
use crate::base::random::Random;

/// Has no state of its own: what is under way is shared.
#[derive(Debug)]
pub struct RandomTwo;

impl Balancer for RandomTwo {
    fn pick(&mut self, view: &View<'_>, random: &mut Random) -> Option<EndpointId> {
        pick(view, random, |at| view.busyness(at)).and_then(EndpointId::at)
    }
}

/// The cheaper of two; where both cost the same, a third is asked as well: with them equal, either
/// may be a slow one with a queue.
pub fn pick<C: Ord>(
    view: &View<'_>,
    random: &mut Random,
    cost: impl Fn(usize) -> C,
) -> Option<usize> {
    let one = choose(view, random, usize::MAX)?;
    let Some(other) = choose(view, random, one) else { return Some(one) };
    let (cheaper, least) = match (cost(one), cost(other)) {
        (first, second) if first < second => return Some(one),
        (first, second) if first > second => return Some(other),
        (equal, _) => (one, equal),
    };
    let third = choose(view, random, one).filter(|third| cost(*third) < least);
    Some(third.unwrap_or(cheaper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::load::Load;

    #[test]
    fn the_busiest_is_never_chosen_while_there_is_another() {
        let loads = [(); 4].map(|()| Load::default());
        for _ in 0..9 {
            loads[2].begin(0);
        }
        let all = |_| true;
        let view = View { weights: &[1; 4], loads: &loads, eligible: &all, now: 0, key: 0 };
        let mut random = Random::new(5);
        for _ in 0..1000 {
            assert_ne!(RandomTwo.pick(&view, &mut random), EndpointId::at(2));
        }
        let only = |at| at == 2;
        assert_eq!(
            RandomTwo.pick(&View { eligible: &only, ..view }, &mut random),
            EndpointId::at(2)
        );
        let none = |_| false;
        assert_eq!(RandomTwo.pick(&View { eligible: &none, ..view }, &mut random), None);
    }
}
