//! Histories that are linearizable by construction: each request takes effect at one moment
//! between its call and its return, and clients take turns at random.

use super::history::Event;
use super::linear::Entry;

/// Numbers that follow from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u8) -> u8 {
        (self.next() % u64::from(end)) as u8
    }

    pub fn index(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    pub fn percent(&mut self, chance: u8) -> bool {
        self.below(100) < chance
    }
}

/// Something that clients use.
pub trait Service {
    type Op: Copy;
    type Answer: Copy;

    /// What a client asks next.
    fn next(&mut self, random: &mut Random) -> Self::Op;
    fn run(&mut self, op: Self::Op, random: &mut Random) -> Self::Answer;
}

/// How many clients and requests, and how many requests in a hundred get no answer.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub clients: usize,
    pub requests: usize,
    pub unknown_percent: u8,
}

enum Turn<O, A> {
    Idle,
    Called { op: O, at: u64 },
    Ran { op: O, at: u64, answer: A },
}

/// What clients see of `service`, in one order of their turns.
pub fn shuffle<S: Service>(
    service: &mut S,
    random: &mut Random,
    load: Load,
) -> Vec<Entry<Event<S::Op, S::Answer>>> {
    let mut clients: Vec<_> = (0..load.clients).map(|_| Turn::Idle).collect();
    let (mut entries, mut late, mut now) = (Vec::new(), Vec::new(), 0);
    while entries.len() < load.requests {
        now += 1;
        if !late.is_empty() && random.percent(5) {
            // Nobody waits for it any more; it takes effect now, or never.
            let op = late.swap_remove(random.index(late.len()));
            if random.percent(50) {
                service.run(op, random);
            }
        }
        let number = random.index(clients.len());
        let client = &mut clients[number];
        *client = match std::mem::replace(client, Turn::Idle) {
            Turn::Idle => Turn::Called { op: service.next(random), at: now },
            Turn::Called { op, at } if random.percent(load.unknown_percent) => {
                entries.push(Entry { event: (op, None), called: at, returned: None });
                late.push(op);
                Turn::Idle
            }
            Turn::Called { op, at } => Turn::Ran { op, at, answer: service.run(op, random) },
            Turn::Ran { op, at, answer } => {
                let event = (op, Some(answer));
                entries.push(Entry { event, called: at, returned: Some(now) });
                Turn::Idle
            }
        };
    }
    // Whoever has no answer yet never gets one.
    for client in clients {
        if let Turn::Called { op, at } | Turn::Ran { op, at, .. } = client {
            entries.push(Entry { event: (op, None), called: at, returned: None });
        }
    }
    entries
}
