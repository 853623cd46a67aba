//! Each primitive is polled by hand, so that every order of events can be written down.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::*;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll<F: Future>(future: Pin<&mut F>, count: &Arc<Count>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(count));
    future.poll(&mut Context::from_waker(&waker))
}

fn woken(count: &Arc<Count>) -> usize {
    count.0.swap(0, Ordering::Relaxed)
}

#[test]
fn a_notification_between_listen_and_await_is_not_lost() {
    let event = Event::new();
    let count = Arc::default();
    let listener = event.listen();
    event.notify();
    assert!(poll(pin!(listener), &count).is_ready());
    assert!(
        poll(pin!(event.listen()), &count).is_pending(),
        "an old notification does not count"
    );
}

#[test]
fn an_event_wakes_all_and_forgets_the_dropped() {
    let event = Event::new();
    let (first, second) = (Arc::default(), Arc::default());
    let mut one = Box::pin(event.listen());
    let mut two = Box::pin(event.listen());
    assert!(poll(one.as_mut(), &first).is_pending());
    assert!(poll(one.as_mut(), &first).is_pending());
    assert!(poll(two.as_mut(), &second).is_pending());
    assert_eq!(event.waiting(), 2, "polled twice, registered once");
    drop(one);
    assert_eq!(event.waiting(), 1);
    event.notify();
    assert_eq!((woken(&first), woken(&second)), (0, 1));
    assert!(poll(two.as_mut(), &second).is_ready());
}

#[test]
fn wait_until_looks_again() {
    let event = Event::new();
    let count = Arc::default();
    let value = Cell::new(0);
    let mut wait = pin!(event.wait_until(|| value.get() >= 2));
    assert!(poll(wait.as_mut(), &count).is_pending());
    value.set(1);
    event.notify();
    assert!(poll(wait.as_mut(), &count).is_pending());
    value.set(2);
    event.notify();
    assert_eq!(woken(&count), 2);
    assert!(poll(wait.as_mut(), &count).is_ready());
}

#[test]
fn a_oneshot_delivers_or_tells() {
    let count = Arc::default();
    let (sender, receiver) = oneshot();
    let mut receiver = pin!(receiver);
    assert!(poll(receiver.as_mut(), &count).is_pending());
    sender.send(7).unwrap();
    assert_eq!(woken(&count), 1);
    assert_eq!(poll(receiver, &count), Poll::Ready(Ok(7)));

    let (sender, receiver) = oneshot::<u8>();
    let mut receiver = pin!(receiver);
    assert!(poll(receiver.as_mut(), &count).is_pending());
    drop(sender);
    assert_eq!(woken(&count), 1);
    assert_eq!(poll(receiver, &count), Poll::Ready(Err(SenderDropped)));

    let (sender, receiver) = oneshot();
    drop(receiver);
    assert!(sender.is_abandoned());
    assert_eq!(sender.send(7), Err(7));
}

#[test]
fn a_queue_is_bounded_ordered_and_closes_both_ways() {
    let count = Arc::default();
    let (sender, mut receiver) = queue(2);
    sender.try_send(1).unwrap();
    sender.try_send(2).unwrap();
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    let mut send = Box::pin(sender.send(3));
    assert!(poll(send.as_mut(), &count).is_pending());
    assert_eq!(receiver.try_recv(), Some(1));
    assert_eq!(woken(&count), 1);
    assert_eq!(
        sender.try_send(9),
        Err(TrySendError::Full(9)),
        "nobody overtakes who waits"
    );
    assert!(poll(send.as_mut(), &count).is_ready());
    drop(send);
    let second = sender.clone();
    drop(sender);
    assert_eq!(poll(pin!(receiver.recv()), &count), Poll::Ready(Some(2)));
    assert_eq!(poll(pin!(receiver.recv()), &count), Poll::Ready(Some(3)));
    {
        let mut recv = pin!(receiver.recv());
        assert!(poll(recv.as_mut(), &count).is_pending());
        drop(second);
        assert_eq!(woken(&count), 1);
        assert_eq!(poll(recv, &count), Poll::Ready(None));
    }

    let (sender, receiver) = queue(1);
    sender.try_send(1).unwrap();
    let mut send = pin!(sender.send(2));
    assert!(poll(send.as_mut(), &count).is_pending());
    drop(receiver);
    assert_eq!(woken(&count), 1);
    assert_eq!(poll(send, &count), Poll::Ready(Err(Closed(2))));
}

#[test]
fn permits_are_served_in_order_and_survive_cancellation() {
    let (first, second) = (Arc::default(), Arc::default());
    let semaphore = Semaphore::new(4);
    let held = semaphore.try_acquire(3).unwrap();
    let mut large = Box::pin(semaphore.acquire(4));
    let mut small = Box::pin(semaphore.acquire(1));
    assert!(poll(large.as_mut(), &first).is_pending());
    assert!(
        poll(small.as_mut(), &second).is_pending(),
        "the large one is first in line"
    );
    assert!(semaphore.try_acquire(1).is_none());
    drop(large);
    assert_eq!(
        woken(&second),
        1,
        "giving up the place lets the next one in"
    );
    let Poll::Ready(permit) = poll(small.as_mut(), &second) else {
        panic!("there is room")
    };
    drop((held, permit));
    assert_eq!(semaphore.available(), 4);
}

#[test]
fn a_wake_up_given_to_one_who_leaves_is_passed_on() {
    let (first, second) = (Arc::default(), Arc::default());
    let semaphore = Semaphore::new(1);
    let held = semaphore.try_acquire(1).unwrap();
    let mut one = Box::pin(semaphore.acquire(1));
    let mut two = Box::pin(semaphore.acquire(1));
    assert!(poll(one.as_mut(), &first).is_pending());
    assert!(poll(two.as_mut(), &second).is_pending());
    drop(held);
    assert_eq!((woken(&first), woken(&second)), (1, 0));
    drop(one);
    assert_eq!(woken(&second), 1);
    assert!(poll(two.as_mut(), &second).is_ready());
}

#[test]
fn an_oversize_request_takes_the_whole_and_permits_split() {
    let count = Arc::default();
    let budget = Budget::new(10);
    let Poll::Ready(mut all) = poll(pin!(budget.acquire(1_000)), &count) else {
        panic!("all is free")
    };
    assert_eq!((all.amount(), budget.available()), (10, 0));
    let part = all.split(4);
    drop(all);
    assert_eq!(budget.available(), 6);
    drop(part);
    assert_eq!(budget.available(), 10);
}
