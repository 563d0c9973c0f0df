//! What is known about each lane, and what is to be asked next. Pure: no clock, no connection.
//!
//! A lane has three lists: the ready messages, those that came due and found no room, and those that
//! were redelivered, which only a fetch that takes suspects asks for. What a fetch needs to know of
//! a list is how the next message in it will be noticed:
//!
//! ```text
//!              claim sent             wait or look sent
//!   Unknown ----------------> Empty ---------------------> Covered
//!      ^                        |                             |
//!      |   not emptied by it    |    the look found something,|
//!      +------------------------+    a wait ended, told of a  |
//!      +---------------------------- change ------------------+
//! ```
//!
//! A claim names lanes with a list that is `Unknown`. What a claim has emptied needs cover: a
//! *wait* (a blocked `BLMOVE`) for the first few lanes, a *look* for all else, which asks whether
//! anything is there and has the server tell of the next change. While all are covered there is
//! nothing to ask. Every step towards cover is made when its command is sent and every step back
//! when something is heard, so what is heard meanwhile is never overwritten by an older answer.

use std::collections::HashMap;

use super::session::Served;
use crate::broker::order::{QueueOrder, Turns};

/// How the next message in a list will be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may hold something: the next claim names its lane.
    Unknown,
    /// A claim emptied it.
    Empty,
    /// A wait or the server will tell.
    Covered,
    /// It is of no use, its key is of another type.
    Broken,
}

/// One of the keys of a lane whose changes matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Ready messages.
    List,
    /// Those that came due and found no room.
    Overdue,
    /// Those that were redelivered.
    Redelivered,
    /// The due set.
    Due,
}

/// A key whose changes matter.
pub(super) type Place = (usize, Part);

const PARTS: [Part; 4] = [Part::List, Part::Overdue, Part::Redelivered, Part::Due];
/// How many of these are lists, and how many of those hold no suspects.
const LISTS: usize = 3;
const OTHERS: usize = 2;

/// The states of all lanes.
pub(super) struct Lanes {
    /// By lane and [`Part`].
    states: Vec<[State; 4]>,
    /// Keys by lane and [`Part`].
    keys: Vec<[String; 4]>,
    places: HashMap<Vec<u8>, Place>,
    /// Queue and priority step of each lane.
    of: Vec<(usize, usize)>,
    turns: Turns,
}

impl Lanes {
    pub(super) fn new(lanes: &[Served], order: QueueOrder) -> Self {
        let keys = |s: &Served| {
            [s.lane.list.clone(), s.overdue.clone(), s.redelivered.clone(), s.due.clone()]
        };
        let keys: Vec<[String; 4]> = lanes.iter().map(keys).collect();
        let places = keys.iter().enumerate().flat_map(|(lane, keys)| {
            keys.iter().zip(PARTS).map(move |(key, part)| (key.clone().into_bytes(), (lane, part)))
        });
        let queues = lanes.iter().map(|served| served.of + 1).max().unwrap_or(0);
        Self {
            states: vec![[State::Unknown; 4]; lanes.len()],
            places: places.collect(),
            keys,
            of: lanes.iter().map(|served| (served.of, served.step)).collect(),
            turns: Turns::new(order, queues),
        }
    }

    /// The lanes in the order of service: by priority, and within one as the queues' turns are.
    fn in_order(&self) -> impl Iterator<Item = usize> + use<> {
        // Lanes lie by priority step, and within one by queue.
        let (turns, lanes) = (self.turns, self.of.len());
        let queues = turns.queues().count().max(1);
        (0..lanes / queues).flat_map(move |step| turns.queues().map(move |q| step * queues + q))
    }

    /// Whether queues share what is claimed.
    pub(super) fn shared(&self) -> bool {
        self.turns.shared()
    }

    /// A message of this lane was the last that was given out.
    pub(super) fn served(&mut self, lane: usize) {
        self.turns.served(self.of[lane].0);
    }

    /// Lanes that a claim is to name, which takes `suspects` or not; none when all is covered or
    /// waits to be. While one is asked, the lanes that `waits` could cover are asked as well,
    /// because waiting on them begins only when there is nothing to claim.
    pub(super) fn to_claim(&self, suspects: bool, waits: impl Fn(usize) -> bool) -> Vec<usize> {
        let asked = if suspects { LISTS } else { OTHERS };
        let unknown = |lane: usize| self.states[lane][..asked].contains(&State::Unknown);
        if !(0..self.of.len()).any(unknown) {
            return Vec::new();
        }
        let named =
            |lane: &usize| unknown(*lane) || waits(*lane) && self.states[*lane][0] == State::Empty;
        self.in_order().filter(named).collect()
    }

    /// A claim that names these lanes was sent.
    pub(super) fn claiming(&mut self, suspects: bool, lanes: &[usize]) {
        let asked = if suspects { LISTS } else { OTHERS };
        for lane in lanes {
            for state in &mut self.states[*lane][..asked] {
                if *state == State::Unknown {
                    *state = State::Empty;
                }
            }
        }
    }

    /// It was answered: those of its lanes that may hold more, of suspects or of others.
    pub(super) fn not_emptied(&mut self, suspects: bool, lanes: impl IntoIterator<Item = usize>) {
        let parts = if suspects { &PARTS[OTHERS..LISTS] } else { &PARTS[..OTHERS] };
        for lane in lanes {
            for part in parts {
                self.changed((lane, *part));
            }
        }
    }

    /// Lists that were emptied and are to be looked at, because no wait will cover them.
    pub(super) fn to_look(&self, waits: impl Fn(usize) -> bool) -> Vec<Place> {
        let lists = |lane| PARTS[..LISTS].iter().map(move |part| (lane, *part));
        let places = (0..self.of.len()).flat_map(lists);
        let uncovered = |place: &Place| {
            self.state(*place) == State::Empty && !(place.1 == Part::List && waits(place.0))
        };
        places.filter(uncovered).collect()
    }

    /// Due sets that nobody watches.
    pub(super) fn to_look_due(&self) -> Vec<Place> {
        let places = (0..self.of.len()).map(|lane| (lane, Part::Due));
        places.filter(|place| self.state(*place) == State::Unknown).collect()
    }

    /// Whether a lane wants a wait.
    pub(super) fn wants_wait(&self, lane: usize) -> bool {
        self.states[lane][0] == State::Empty
    }

    /// A wait or a look was sent.
    pub(super) fn covered(&mut self, place: Place) {
        self.states[place.0][place.1 as usize] = State::Covered;
    }

    /// It may hold something.
    pub(super) fn changed(&mut self, place: Place) {
        let state = &mut self.states[place.0][place.1 as usize];
        if *state != State::Broken {
            *state = State::Unknown;
        }
    }

    /// It is empty, and what covered it has ended.
    pub(super) fn uncovered(&mut self, place: Place) {
        let state = &mut self.states[place.0][place.1 as usize];
        if *state == State::Covered {
            *state = if place.1 == Part::Due { State::Unknown } else { State::Empty };
        }
    }

    /// Nothing is known of what the server was to tell; what waits cover is left alone.
    pub(super) fn doubt(&mut self, waits: impl Fn(usize) -> bool) {
        for place in (0..self.of.len()).flat_map(|lane| PARTS.map(|part| (lane, part))) {
            if self.state(place) == State::Broken {
                self.states[place.0][place.1 as usize] = State::Unknown;
            }
            if !(place.1 == Part::List && waits(place.0)) {
                self.uncovered(place);
            }
        }
    }

    /// The server told of a change of a key; which it was.
    pub(super) fn told(&mut self, key: &[u8]) -> Option<Place> {
        let place = *self.places.get(key)?;
        self.changed(place);
        Some(place)
    }

    /// A key is of another type; nothing is asked of it until all is doubted. One that is no key of
    /// these is the lane's record, without which nothing can be claimed from it.
    pub(super) fn broken(&mut self, key: &[u8], unacked: impl Fn(usize) -> bool) {
        if let Some((lane, part)) = self.places.get(key).copied() {
            self.states[lane][part as usize] = State::Broken;
        } else if let Some(lane) = (0..self.of.len()).find(|lane| unacked(*lane)) {
            self.states[lane] = [State::Broken; 4];
        }
    }

    fn state(&self, place: Place) -> State {
        self.states[place.0][place.1 as usize]
    }

    pub(super) fn key(&self, place: Place) -> &str {
        &self.keys[place.0][place.1 as usize]
    }
}
