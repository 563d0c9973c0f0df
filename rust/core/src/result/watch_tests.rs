//! How long a store that is away is waited for, in a time of the test's own.

use std::sync::mpsc;

use super::*;

/// A store that fails as it is told to.
struct Fake(Arc<Mutex<Option<ErrorKind>>>);

impl Channel for Fake {
    async fn follow(&mut self, _: &[(String, Origin)]) -> Result<()> {
        match *self.0.lock().unwrap() {
            Some(kind) => Err(Error::new(kind, "the store is away")),
            None => Ok(()),
        }
    }
    async fn leave(&mut self, _: &[String]) -> Result<()> {
        Ok(())
    }
    async fn read(&mut self, ids: &[String]) -> Result<Vec<(String, Bytes)>> {
        Ok(ids.iter().map(|id| (id.clone(), Bytes::from(id.clone()))).collect())
    }
    async fn next(&mut self) -> Result<Heard> {
        std::future::pending().await
    }
}

struct Told(mpsc::Sender<Outcome>);

impl Observer for Told {
    fn ready(&self, outcomes: Vec<Outcome>) {
        for outcome in outcomes {
            self.0.send(outcome).unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_waited_for_but_not_for_ever() {
    let failure = Arc::new(Mutex::new(Some(ErrorKind::Connection)));
    let (sender, told) = mpsc::channel();
    let observer: Arc<dyn Observer> = Arc::new(Told(sender));
    let watchers = Watchers::default();
    watchers.0.lock().running = true; // by this test
    let watch = |id: &str, key: u64| {
        watchers.watch(id, Origin::Own, (key, &observer), || -> Fake { unreachable!() }).unwrap()
    };
    let shared = Arc::clone(&watchers.0);
    let mut channel = Fake(Arc::clone(&failure));
    let serving = tokio::spawn(async move { serve(&shared, &mut channel).await });

    let _first = watch("first", 1);
    sleep(ABSENCE / 2).await;
    assert!(told.try_recv().is_err(), "it may come back");
    *failure.lock().unwrap() = None;
    sleep(PAUSE * 3).await;
    let (key, document) = told.try_recv().unwrap();
    assert_eq!((key, &*document.unwrap()), (1, &b"first"[..]));

    *failure.lock().unwrap() = Some(ErrorKind::Connection);
    let _second = watch("second", 2);
    sleep(ABSENCE + PAUSE * 3).await;
    let (key, error) = told.try_recv().unwrap();
    assert_eq!((key, error.unwrap_err().kind()), (2, ErrorKind::Connection));

    *failure.lock().unwrap() = Some(ErrorKind::Storage);
    let _third = watch("third", 3);
    sleep(PAUSE * 3).await;
    let (key, error) = told.try_recv().unwrap();
    assert_eq!((key, error.unwrap_err().kind()), (3, ErrorKind::Storage), "at once");

    *failure.lock().unwrap() = None;
    sleep(PAUSE * 3 + IDLE * 2).await;
    assert!(serving.is_finished(), "nobody waits any more");
    assert!(!watchers.0.lock().running);
}
