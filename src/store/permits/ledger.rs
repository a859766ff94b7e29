//! The ledger's rules. Pure: time, and who is listening, come in; the answer, and who should be told to ask again, come out.
//!
//! How a limit is shared: everybody gets what it needs, then what it needed lately, then an equal part of the rest, so that the next
//! call of each finds a permit at home. When all together need more than there is, they get equal parts, but nobody more than it needs;
//! what cannot be divided goes to some of them now and to others a moment later, so that a limit below the number of processes serves
//! all of them.
//!
//! The account's limit is no scope of its own: its parts are (what is reserved, what is provisioned, what is left to all others), and each call
//! needs a permit of one of them. The parts' limits add up to the account's, so a part's permits are there whatever the others use. Only
//! while parts change, and processes do not agree on them, could they add up to more: so no part grows beyond what the account has left.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::permits::{Answer, Ask, Claim, Grant};

/// For so many milliseconds those who got one more than others keep it.
pub const TURN_MILLIS: u64 = 500;

/// What the ledger sees from where it is.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Its own clock, in milliseconds.
    pub now: u64,
    /// Its own run: another one after it was started again.
    pub run: String,
    /// Processes that listen.
    pub listening: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    members: BTreeMap<String, Member>,
    /// When it was last asked, and in which run.
    last: u64,
    run: String,
    /// Until then it was away in some sense, and nobody's permits return.
    settle: u64,
    /// Until then it knows that it lost what it had granted, and nobody gets more.
    quiet: u64,
}

#[derive(Debug, Default, Clone)]
struct Member {
    incarnation: String,
    sequence: u64,
    until: u64,
    tail: u64,
    /// The run in which it was last heard, and the one in which it was last seen listening.
    heard: String,
    seen: String,
    scopes: BTreeMap<String, Part>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Part {
    held: u32,
    need: u32,
    lately: u32,
    counted: bool,
}

impl Part {
    fn of_account(&self) -> u32 {
        if self.counted { self.held } else { 0 }
    }
}

/// How it stands with a claim.
struct Stands {
    held: u32,
    /// What the ledger had as held.
    known: u32,
    /// What the account has left for it.
    most: u32,
}

impl Ledger {
    /// The answer, and the processes to be told.
    pub fn exchange(&mut self, ask: &Ask, sight: &Sight) -> (Answer, BTreeSet<String>) {
        let now = sight.now;
        if ask.lease.is_zero() {
            return (Answer::Granted(Vec::new()), self.leave(ask));
        }
        let lease = millis(ask.lease);
        self.notice_absence(sight, lease);
        let mut me = match self.members.get(&ask.process) {
            Some(me) if me.incarnation == ask.incarnation => {
                if ask.sequence <= me.sequence {
                    return (Answer::Late, BTreeSet::new());
                }
                me.clone()
            }
            Some(_other) if ask.sequence > 1 => return (Answer::Superseded, BTreeSet::new()),
            // Part of what it holds would be taken for all.
            _ if !ask.whole => return (Answer::Unknown, BTreeSet::new()),
            Some(_last_run) => Member::default(),
            None => {
                if ask.holds && ask.claims.iter().any(|claim| claim.held > 0) {
                    // It holds what nobody here knows of.
                    self.quiet = now + lease;
                }
                Member::default()
            }
        };
        self.members.remove(&ask.process);
        self.members
            .retain(|id, member| !member.has_returned(sight, id, self.settle));
        let unheard = self.members.values().any(|m| m.heard != sight.run);
        let growth = now >= self.quiet && (now >= self.settle || !unheard);

        let before = std::mem::take(&mut me.scopes);
        if !ask.whole {
            me.scopes.clone_from(&before);
        }
        for claim in &ask.claims {
            let known = before.get(&claim.scope).map_or(0, |part| part.held);
            let held = if ask.holds {
                claim.held
            } else {
                claim.held.min(known)
            };
            let part = Part {
                held,
                need: claim.need,
                lately: claim.lately,
                counted: claim.counted,
            };
            me.scopes.insert(claim.scope.clone(), part);
        }
        let others = self.members.values().flat_map(|m| m.scopes.values());
        let mut of_account: u32 = (others.chain(me.scopes.values()))
            .map(Part::of_account)
            .sum();
        let (mut grants, mut told) = (Vec::new(), BTreeSet::new());
        for claim in &ask.claims {
            let known = before.get(&claim.scope).map_or(0, |part| part.held);
            let mut part = me.scopes[&claim.scope];
            of_account -= part.of_account();
            let most = match claim.counted {
                true => ask.account.saturating_sub(of_account),
                false => u32::MAX,
            };
            let stands = Stands {
                held: part.held,
                known,
                most,
            };
            let (grant, tell) = self.share(ask, claim, &stands, growth, now);
            told.extend(tell);
            part.held = grant.held;
            of_account += part.of_account();
            me.scopes.insert(claim.scope.clone(), part);
            grants.push(grant);
        }
        let seen = sight.listening.contains(&ask.process);
        let me = Member {
            incarnation: ask.incarnation.clone(),
            sequence: ask.sequence,
            until: now + lease,
            tail: millis(ask.tail),
            heard: sight.run.clone(),
            seen: if seen {
                sight.run.clone()
            } else {
                String::new()
            },
            scopes: me.scopes,
        };
        self.members.insert(ask.process.clone(), me);
        (Answer::Granted(grants), told)
    }

    fn leave(&mut self, ask: &Ask) -> BTreeSet<String> {
        match self.members.get(&ask.process) {
            Some(me) if me.incarnation == ask.incarnation => {
                self.members.remove(&ask.process);
                self.members.keys().cloned().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// A new run, a jump of the clock, or a time in which nobody was heard.
    fn notice_absence(&mut self, sight: &Sight, lease: u64) {
        let now = sight.now;
        let absent = self.run != sight.run || now < self.last || now - self.last > lease / 2;
        if absent && !self.members.is_empty() {
            self.settle = now + lease;
            // The clock may have gone back.
            for member in self.members.values_mut() {
                member.until = member.until.min(now + lease);
            }
        }
        self.last = now;
        self.run.clone_from(&sight.run);
    }

    fn share(
        &self,
        ask: &Ask,
        claim: &Claim,
        stands: &Stands,
        growth: bool,
        now: u64,
    ) -> (Grant, Vec<String>) {
        let Stands { held, known, most } = *stands;
        let others: Vec<(&String, Part, bool)> = self
            .members
            .iter()
            .filter_map(|(id, m)| Some((id, *m.scopes.get(&claim.scope)?, m.until >= now)))
            .collect();
        let held_by = |live: bool| {
            let parts = others.iter().filter(|(_, _, l)| *l == live);
            parts.map(|(_, part, _)| part.held).sum::<u32>()
        };
        // What those hold who are not heard of any more is nobody's to share.
        let (with_others, with_lost) = (held_by(true) + held_by(false), held_by(false));
        let live: Vec<(&String, Part)> =
            others.iter().filter(|o| o.2).map(|o| (o.0, o.1)).collect();
        let mut needs: Vec<Need<'_>> = live
            .iter()
            .map(|(id, part)| (id.as_str(), part.need, part.lately))
            .collect();
        needs.push((&ask.process, claim.need, claim.lately));
        needs.sort_unstable();
        let parts = fair(
            claim.limit.saturating_sub(with_lost),
            &needs,
            now / TURN_MILLIS,
        );
        let part_of = |id: &str| {
            let place = needs.iter().position(|(name, ..)| *name == id);
            place.map_or(0, |place| parts[place])
        };
        let mine = part_of(&ask.process);
        let available = claim.limit.saturating_sub(with_others).min(most);
        let grown = if growth { mine.min(available) } else { 0 };
        let granted = held.max(grown);

        let pressed = live.iter().any(|(_, part)| part.need > part.held)
            || with_others.saturating_add(granted) > claim.limit;
        let keep = if pressed || ask.whole {
            granted.min(mine)
        } else {
            granted
        };
        let tell = live.iter().filter(|(id, part)| {
            (claim.need > granted && part.held > part_of(id))
                || (held < known && part.need > part.held)
        });
        let tell = tell.map(|(id, _)| (*id).clone()).collect();
        let idle = live.iter().map(|(id, part)| {
            let theirs = part.need.max(part_of(id));
            part.held.saturating_sub(theirs)
        });
        let free = available.saturating_sub(granted);
        let coming = free.saturating_add(idle.sum());
        let grant = Grant {
            held: granted,
            keep,
            coming: coming.min(mine.saturating_sub(granted)),
        };
        (grant, tell)
    }
}

impl Member {
    /// Whether its permits can be given to others.
    fn has_returned(&self, sight: &Sight, id: &str, settle: u64) -> bool {
        let dead = self.seen == sight.run && !sight.listening.contains(id);
        let ended = sight.now >= self.until.max(settle) + self.tail;
        sight.now > self.until && (dead || ended)
    }
}

/// Who needs how many now, and needed lately.
type Need<'a> = (&'a str, u32, u32);

/// What each of these gets of `total`. `turn` decides who gets what cannot be divided.
fn fair(total: u32, needs: &[Need<'_>], turn: u64) -> Vec<u32> {
    let (mut got, mut rest) = (vec![0; needs.len()], total);
    let now: Vec<u32> = needs.iter().map(|need| need.1).collect();
    let lately: Vec<u32> = needs.iter().map(|need| need.2).collect();
    fill(&mut got, &mut rest, &now, turn);
    fill(&mut got, &mut rest, &lately, turn);
    let spare = rest / count(needs.len());
    got.iter_mut().for_each(|got| *got += spare);
    got
}

/// Gives from `rest` in equal parts to those who have less than they want.
fn fill(got: &mut [u32], rest: &mut u32, wanted: &[u32], turn: u64) {
    loop {
        let wanting: Vec<usize> = (0..got.len()).filter(|&i| wanted[i] > got[i]).collect();
        if *rest == 0 || wanting.is_empty() {
            return;
        }
        let share = *rest / count(wanting.len());
        if share == 0 {
            let first = usize::try_from(turn % wanting.len() as u64).unwrap_or(0);
            for n in 0..*rest as usize {
                got[wanting[(first + n) % wanting.len()]] += 1;
            }
            *rest = 0;
            return;
        }
        for i in wanting {
            let more = share.min(wanted[i] - got[i]);
            got[i] += more;
            *rest -= more;
        }
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX).max(1)
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_fair() {
        let of = |total, needs: &[u32], turn| {
            let names = ["a", "b", "c"];
            let needs = names.into_iter().zip(needs.iter());
            let needs: Vec<_> = needs.map(|(name, need)| (name, *need, 0)).collect();
            fair(total, &needs, turn)
        };
        // Enough for all: what nobody needs is divided too.
        assert_eq!(of(10, &[0], 0), [10]);
        assert_eq!(of(10, &[4, 0, 0], 0), [6, 2, 2]);
        assert_eq!(of(10, &[5, 3, 2], 0), [5, 3, 2]);
        // Too little: equal parts, but nobody gets more than it needs.
        assert_eq!(of(10, &[1, 50, 6], 0), [1, 5, 4]);
        assert_eq!(of(10, &[1, 50, 6], 1), [1, 4, 5]);
        assert_eq!(of(9, &[9, 9, 9], 0), [3, 3, 3]);
        // Fewer than there are processes: each has its turn.
        assert_eq!(of(1, &[9, 9, 9], 0), [1, 0, 0]);
        assert_eq!(of(1, &[9, 9, 9], 1), [0, 1, 0]);
        assert_eq!(of(2, &[9, 9, 9], 2), [1, 0, 1]);
        assert_eq!(of(0, &[9, 9, 9], 2), [0, 0, 0]);
        // What is needed now goes before what was needed lately, and that before what nobody asks for.
        assert_eq!(fair(4, &[("a", 4, 4), ("b", 0, 1)], 0), [4, 0]);
        assert_eq!(fair(9, &[("a", 2, 2), ("b", 0, 5)], 0), [3, 6]);
    }
}
