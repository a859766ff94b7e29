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

/// What a process said it needs is not relied on for longer than this, when another is short: it is told to say it again.
pub const STALE_MILLIS: u64 = 15;

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

#[derive(Debug, Default, Clone)]
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
            return (Answer::Granted(Vec::new()), self.leave(ask, sight));
        }
        let lease = millis(ask.lease);
        self.notice_absence(sight, lease);
        let mut me = match self.members.get(&ask.process) {
            Some(me) if me.incarnation == ask.incarnation => {
                if ask.sequence <= me.sequence {
                    return (Answer::Late, BTreeSet::new());
                }
                if ask.answered > me.sequence {
                    // What was granted then is forgotten here, and who knows what else.
                    self.quiet = now + lease;
                }
                me.clone()
            }
            // One that was not heard since the ledger started may be the run before, which the ledger forgot had ended.
            Some(other) if ask.sequence > 1 && other.heard == sight.run => {
                return (Answer::Superseded, BTreeSet::new());
            }
            // Part of what it holds would be taken for all.
            _ if !ask.whole => return (Answer::Unknown, BTreeSet::new()),
            _ => {
                if ask.holds && ask.claims.iter().any(|claim| claim.held > 0) {
                    // It holds what nobody here knows of.
                    self.quiet = now + lease;
                }
                Member::default()
            }
        };
        let is_new = self.members.remove(&ask.process).is_none();
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
        if is_new {
            told.extend(self.members.keys().cloned());
        }
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

    /// It holds nothing from now on. What it asked before and arrives later is known to be late for a while.
    fn leave(&mut self, ask: &Ask, sight: &Sight) -> BTreeSet<String> {
        match self.members.get_mut(&ask.process) {
            Some(me) if me.incarnation == ask.incarnation => {
                me.sequence = me.sequence.max(ask.sequence);
                me.until = sight.now;
                me.heard.clone_from(&sight.run);
                me.seen.clear();
                me.scopes.clear();
                let others = self.members.keys().filter(|id| **id != ask.process);
                others.cloned().collect()
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
        let others = self.members.iter();
        let others = others.filter_map(|(id, m)| Some((id, m, *m.scopes.get(&claim.scope)?)));
        let (live, lost): (Vec<_>, Vec<_>) = others.partition(|(_, m, _)| m.until >= now);
        let held_by = |others: &[(&String, &Member, Part)]| -> u32 {
            others.iter().map(|(_, _, part)| part.held).sum()
        };
        // What those hold who are not heard of any more is nobody's to share.
        let with_lost = held_by(&lost);
        let with_others = held_by(&live) + with_lost;
        let mut needs: Vec<Need<'_>> = live
            .iter()
            .map(|(id, _, part)| (id.as_str(), part.need, part.lately))
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

        let pressed = live.iter().any(|(_, _, part)| part.need > part.held)
            || with_others.saturating_add(granted) > claim.limit;
        let keep = if pressed || ask.whole {
            granted.min(mine)
        } else {
            granted
        };
        let lacks = claim.need.saturating_sub(granted);
        let (mut idle, mut unsure, mut tell) = (0u32, 0u32, Vec::new());
        for (id, member, part) in &live {
            let stale = member.until + STALE_MILLIS < now + millis(ask.lease);
            match stale {
                true => unsure += part.held,
                false => idle += part.held.saturating_sub(part.need.max(part_of(id))),
            }
            let has_some = part.held > part_of(id) || (stale && part.held > 0);
            if (lacks > 0 && has_some) || (held < known && part.need > part.held) {
                tell.push((*id).clone());
            }
        }
        let free = available.saturating_sub(granted);
        let sure = (free + idle).min(mine.saturating_sub(granted));
        let grant = Grant {
            held: granted,
            keep,
            coming: lacks.min(sure + unsure),
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
    use std::time::Duration;

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

    fn ask(process: &str, sequence: u64, held: u32, need: u32) -> Ask {
        Ask {
            process: process.into(),
            incarnation: "first".into(),
            sequence,
            answered: sequence - 1,
            lease: Duration::from_secs(10),
            tail: Duration::ZERO,
            holds: sequence > 1,
            whole: true,
            account: 10,
            claims: vec![Claim {
                scope: "unreserved".into(),
                limit: 10,
                counted: true,
                held,
                need,
                lately: 0,
            }],
        }
    }

    fn sight(run: &str, now: u64) -> Sight {
        Sight {
            now,
            run: run.into(),
            listening: BTreeSet::new(),
        }
    }

    fn these(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    /// What was granted, what comes, and who is told.
    fn granted(exchanged: (Answer, BTreeSet<String>)) -> (u32, u32, BTreeSet<String>) {
        match exchanged {
            (Answer::Granted(grants), told) => (grants[0].held, grants[0].coming, told),
            other => unreachable!("{other:?}"),
        }
    }

    /// What others said a while ago may have changed: their permits are not taken for needed before they have said so again.
    #[test]
    fn old_figures_of_need_are_asked_for_again() {
        let mut ledger = Ledger::default();
        let mut asks = |process: &str, sequence, held, need, now| {
            let ask = ask(process, sequence, held, need);
            granted(ledger.exchange(&ask, &sight("run", now)))
        };
        assert_eq!(asks("a", 1, 0, 10, 1_000), (10, 0, these(&[])));
        // It has said that it uses all of it, and has to give one back in time.
        let then = 1_000 + STALE_MILLIS;
        assert_eq!(asks("b", 1, 0, 1, then), (0, 0, these(&["a"])));
        assert_eq!(asks("a", 2, 9, 9, 1_100), (9, 0, these(&["b"])));
        assert_eq!(asks("b", 2, 0, 1, 1_100), (1, 0, these(&[])));
        assert_eq!(asks("a", 3, 9, 9, 1_200), (9, 0, these(&[])));
        assert_eq!(asks("b", 3, 1, 1, 1_200), (1, 0, these(&[])));
        let then = 1_200 + STALE_MILLIS;
        assert_eq!(asks("c", 1, 0, 1, then), (0, 0, these(&["a", "b"])));
        assert_eq!(asks("c", 2, 0, 1, then), (0, 0, these(&["a"])));
        // A moment later nobody knows whether they use it still.
        let all = these(&["a", "b"]);
        assert_eq!(asks("c", 3, 0, 1, then + 1), (0, 1, all));
    }

    /// A ledger that lost its last second does not know who joined in it, nor that it does not. Another has asked since.
    #[test]
    fn who_joined_in_a_lost_second_keeps_its_part() {
        let mut ledger = Ledger::default();
        let before = sight("before", 1_000);
        assert_eq!(granted(ledger.exchange(&ask("a", 1, 0, 3), &before)).0, 10);
        let mut written = ledger.clone();
        let joins = ledger.exchange(&ask("b", 1, 0, 3), &before);
        assert_eq!(granted(joins), (0, 3, these(&["a"])));
        ledger.exchange(&ask("a", 2, 10, 3), &before);
        ledger.exchange(&ask("a", 3, 5, 3), &before);
        assert_eq!(granted(ledger.exchange(&ask("b", 2, 0, 3), &before)).0, 5);

        let mut asks = |process: &str, sequence, held, now| {
            let ask = ask(process, sequence, held, 9);
            granted(written.exchange(&ask, &sight("after", now))).0
        };
        assert_eq!(asks("a", 4, 5, 2_000), 5);
        assert_eq!(asks("b", 3, 5, 2_000), 5);
        // And when all have been heard for long enough, it goes on as before.
        assert_eq!(asks("b", 4, 2, 12_000), 5);
    }

    /// So does one that started again in it: what the ledger has is the run before.
    #[test]
    fn who_started_in_a_lost_second_is_nobodys_impostor() {
        let mut ledger = Ledger::default();
        ledger.exchange(&ask("a", 1, 0, 3), &sight("before", 1_000));
        let mut written = ledger.clone();
        let second = |sequence, held| Ask {
            incarnation: "second".into(),
            ..ask("a", sequence, held, 3)
        };
        ledger.exchange(&second(1, 0), &sight("before", 1_100));
        let after = sight("after", 2_000);
        assert_eq!(granted(written.exchange(&second(2, 10), &after)).0, 10);
        let first = written.exchange(&ask("a", 2, 10, 3), &after).0;
        assert_eq!(first, Answer::Superseded);
    }
}
