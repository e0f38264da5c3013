//! Deliveries in a model world, undisturbed and disturbed in every way that is known.

mod bad_input;
mod controllers;
mod deliveries;
mod draining;
mod interleavings;
mod status_table;
mod unreadable;
mod world;

use serde_json::{Value, json};
use timetracker_operator::api::names::Digest;
use timetracker_operator::api::release::ReleaseStep;

use world::{Image, Migration, World};

/// An image whose code needs the schema level of its head and runs on anything above.
pub fn image(seed: &str, head: &'static str, level: u32) -> Image {
    Image {
        digest: Digest::of(seed.as_bytes()),
        head,
        needs: level,
        tolerates: u32::MAX,
        migration: Migration::Works,
        serves: true,
    }
}

pub fn range() -> Value {
    json!({"image": {"semver": ">=5, <6"}, "rollout": {"soak": "0s", "timeout": "60s"}})
}

/// Reconciles once, all writes done.
pub fn reconcile(world: &mut World) -> usize {
    let observed = world.observe();
    let writes = world.plan(&observed);
    for write in &writes {
        world.write(write).unwrap();
    }
    writes.len()
}

/// Reconciles and lets the world go on until neither moves any more.
pub fn settle(world: &mut World) {
    let mut quiet = 0;
    let mut before = stop(world);
    for _ in 0..400 {
        let writes = reconcile(world);
        let told = stop(world);
        if let (Some((message, step)), Some((same, then))) = (&told, &before)
            && message == same
        {
            assert_eq!(step, then, "the step of one stop is told twice, differently: {message}");
        }
        before = told;
        world.tick();
        quiet = if writes == 0 { quiet + 1 } else { 0 };
        assert!(world.database.running <= 1, "two migrations at once");
        // Pauses and deadlines are waited for in longer strides: seven minutes in all.
        if quiet > 2 {
            world.pass(60);
        }
        if quiet > 8 {
            return;
        }
    }
    panic!("no fixed point: {:#?}", world.plan(&world.observe()));
}

/// What is told of a delivery that stopped: the message, and the step in which it did.
fn stop(world: &World) -> Option<(String, ReleaseStep)> {
    let status = world.release().status?;
    let stalled = status.conditions.iter().find(|known| known.type_ == "Stalled" && known.status == "True")?;
    Some((stalled.message.clone(), status.candidate?.step))
}

pub fn condition(world: &World, kind: &str) -> (String, String) {
    let release = world.release();
    let conditions = release.status.map(|status| status.conditions).unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition.type_ == kind)
        .map_or_else(Default::default, |condition| (condition.status, condition.reason))
}

pub fn current(world: &World) -> Option<String> {
    Some(world.release().status?.current?.version)
}

pub fn deployed(world: &World) -> Option<Digest> {
    let annotations = world.get("Deployment", "site")?.pointer("/spec/template/metadata/annotations")?;
    annotations.get("timetracker.dev/digest")?.as_str()?.parse().ok()
}
