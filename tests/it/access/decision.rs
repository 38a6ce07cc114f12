//! The decision against an independent model: ten thousand random worlds of grants, agreements that take each other's place,
//! purposes, countries and times are decided alike by both. The model knows whole days and words, and none of the server's
//! rules.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;
use weir::domain::{
    access::{
        agreement::{AgreementSuccession, AgreementTerms},
        decision::{Bearer, Facts, ShareAccess, Target, decide},
        geography::{Country, GeoMode, Geography},
        grant::{Agreement, Ending, Grant},
        recipient::{Recipient, RecipientSpec, RecipientState},
        token::Token,
    },
    catalog::{
        requirements::Requirements,
        share::{Share, ShareSpec},
    },
    core::{
        name::{Name, NameKind},
        word::AsWritten,
    },
};

const WORLDS: u64 = 10_000;
const DAYS: u64 = 12;
const PURPOSES: [&str; 3] = ["fraud", "pricing", "audit"];
const KINDS: [&str; 3] = ["BAA", "DPA", "DUA"];
const CLASSES: [&str; 2] = ["PHI", "PII"];
const REGIONS: [&str; 6] = ["DE", "FR", "NO", "US", "EU", "EEA"];
const STATES: [&str; 6] = ["draft", "in_review", "active", "suspended", "terminated", "in_dispute"];

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        // Knuth's multiplier and increment for 64 bits.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn day(&mut self) -> i64 {
        self.below(DAYS).cast_signed()
    }

    fn purposes(&mut self) -> Vec<&'static str> {
        match self.below(6) {
            0 => vec!["*"],
            _ => PURPOSES.into_iter().filter(|_| self.below(2) == 0).collect(),
        }
    }

    /// A third of all countries and regions, on average.
    fn regions(&mut self) -> Vec<&'static str> {
        REGIONS.into_iter().filter(|_| self.below(3) == 0).collect()
    }
}

#[derive(Debug)]
struct Contract {
    state: &'static str,
    activated: Option<i64>,
    /// The day on which it came to its state.
    since: i64,
    from: i64,
    until: i64,
    purposes: Vec<&'static str>,
    kind: &'static str,
    classes: Vec<&'static str>,
    regions: Option<Vec<&'static str>>,
}

/// What is read, and what its classes ask for.
#[derive(Debug)]
struct Shown {
    must_be_classified: bool,
    unconfirmed: u64,
    is_refused: bool,
    /// For each class, sets of types of which one is needed whole.
    needs: Vec<(&'static str, Vec<Vec<&'static str>>)>,
    most_days: Option<i64>,
    /// How strictly the country is checked because of them.
    geo: Option<&'static str>,
}

#[derive(Debug)]
struct Given {
    from: i64,
    until: i64,
    ended: Option<i64>,
    purpose: Option<&'static str>,
    /// Whether it spells its purpose in capitals, which means the same.
    is_loud: bool,
    /// Each is a list of contracts that take each other's place.
    contracts: Vec<Vec<Contract>>,
    /// The end that a grant without contracts refers to.
    referred: Option<i64>,
}

#[derive(Debug)]
struct World {
    today: i64,
    grants: Vec<Given>,
    table: Option<Vec<&'static str>>,
    shown: Option<Shown>,
    /// The shares that the token is for; of 0 is asked, and an empty list is for all.
    scope: Vec<u128>,
    /// `off`, `known` or `strict`.
    mode: &'static str,
    /// Where the request comes from, if that is known.
    from: Option<&'static str>,
    /// Where the recipient is established, and where it may be.
    country: Option<&'static str>,
    regions: Vec<&'static str>,
}

fn contract(dice: &mut Dice) -> Contract {
    let state = if dice.below(3) == 0 { STATES[dice.below(6) as usize] } else { "active" };
    let from = dice.day();
    let was_active = match state {
        "active" | "suspended" => true,
        "terminated" | "in_dispute" => dice.below(2) == 0,
        _ => false,
    };
    Contract {
        state,
        activated: was_active.then(|| dice.day()),
        since: dice.day(),
        from,
        until: from + 1 + dice.day(),
        purposes: dice.purposes(),
        kind: KINDS[dice.below(3) as usize],
        classes: CLASSES.into_iter().filter(|_| dice.below(3) > 0).collect(),
        regions: (dice.below(2) == 0).then(|| dice.regions()),
    }
}

fn shown(dice: &mut Dice) -> Shown {
    let set = |dice: &mut Dice| {
        let set: Vec<_> = KINDS.into_iter().filter(|_| dice.below(3) == 0).collect();
        if set.is_empty() { vec![KINDS[dice.below(3) as usize]] } else { set }
    };
    let mut needs = Vec::new();
    for class in CLASSES {
        if dice.below(3) == 0 {
            needs.push((class, (0..=dice.below(2)).map(|_| set(dice)).collect()));
        }
    }
    Shown {
        must_be_classified: dice.below(2) == 0,
        unconfirmed: dice.below(4).saturating_sub(2),
        is_refused: dice.below(5) == 0,
        needs,
        most_days: (dice.below(3) == 0).then(|| 1 + dice.day()),
        geo: (dice.below(3) == 0).then(|| ["off", "known", "strict"][dice.below(3) as usize]),
    }
}

fn world(dice: &mut Dice) -> World {
    let grants = (0..dice.below(4)).map(|_| {
        let from = dice.day() - 4;
        let contracts: Vec<Vec<Contract>> =
            (0..dice.below(3)).map(|_| (0..=dice.below(3)).map(|_| contract(dice)).collect()).collect();
        Given {
            from,
            until: from + 1 + dice.day(),
            ended: (dice.below(4) == 0).then(|| dice.day()),
            purpose: (dice.below(4) > 0).then(|| PURPOSES[dice.below(3) as usize]),
            is_loud: dice.below(4) == 0,
            referred: (dice.below(3) == 0).then(|| dice.day()),
            contracts,
        }
    });
    let grants = grants.collect();
    World {
        today: dice.day(),
        grants,
        table: (dice.below(3) == 0).then(|| dice.purposes().into_iter().filter(|purpose| *purpose != "*").collect()),
        shown: (dice.below(2) == 0).then(|| shown(dice)),
        mode: ["off", "known", "strict", "strict"][dice.below(4) as usize],
        from: (dice.below(4) > 0).then(|| REGIONS[dice.below(4) as usize]),
        country: (dice.below(2) == 0).then(|| REGIONS[dice.below(4) as usize]),
        regions: if dice.below(2) == 0 { dice.regions() } else { Vec::new() },
        scope: match dice.below(8) {
            0 => vec![8],
            1 => vec![8, 9],
            2 => vec![8, 0],
            3 => vec![0],
            _ => vec![],
        },
    }
}

/// The contract of a line that counts today.
fn counts(line: &[Contract], today: i64) -> &Contract {
    let mut decides = &line[0];
    for later in line {
        // One that was called off before it began never takes over.
        let is_void =
            later.state == "terminated" && later.activated.is_some_and(|day| later.since < day.max(later.from));
        if !is_void && later.activated.is_some_and(|day| day <= today) && later.from <= today {
            decides = later;
        }
    }
    decides
}

/// Why a grant does not open what is read; empty if it does.
fn keeps_back(shown: &Shown, grant: &Given, today: i64) -> &'static str {
    if shown.must_be_classified && shown.unconfirmed > 0 {
        return "UNCLASSIFIED_COLUMN";
    }
    if shown.is_refused {
        return "RAW_NOT_ALLOWED";
    }
    for (class, sets) in &shown.needs {
        let has = |kind: &&str| {
            grant.contracts.iter().any(|line| {
                let contract = counts(line, today);
                contract.kind == *kind && contract.classes.contains(class)
            })
        };
        if !sets.iter().any(|set| set.iter().all(has)) {
            return "AGREEMENT_MISSING";
        }
    }
    match shown.most_days {
        Some(days) if today >= grant.from + days => "GRANT_EXPIRED",
        _ => "",
    }
}

/// What one line of contracts says to a purpose today.
fn says(line: &[Contract], purpose: Option<&str>, today: i64) -> &'static str {
    let decides = counts(line, today);
    let has_been_signed = ["active", "suspended"].contains(&decides.state);
    if has_been_signed && today >= decides.until {
        return "AGREEMENT_ENDED";
    }
    if decides.state != "active" || today < decides.from {
        return "AGREEMENT_INACTIVE";
    }
    match decides.purposes.contains(&"*") || purpose.is_some_and(|purpose| decides.purposes.contains(&purpose)) {
        true => "",
        false => "PURPOSE_NOT_ALLOWED",
    }
}

/// Why a grant does not allow today; empty if it does.
fn lacks(grant: &Given, today: i64) -> &'static str {
    if grant.ended.is_some_and(|day| day <= today) {
        return "GRANT_REVOKED";
    }
    if today >= grant.until {
        return "GRANT_EXPIRED";
    }
    if today < grant.from {
        return "SHARE_NOT_GRANTED";
    }
    if grant.contracts.is_empty() {
        return if grant.referred.is_some_and(|day| day <= today) { "AGREEMENT_ENDED" } else { "" };
    }
    let said: Vec<&str> = grant.contracts.iter().map(|line| says(line, grant.purpose, today)).collect();
    let of_time = said.iter().find(|said| said.starts_with("AGREEMENT"));
    of_time.or_else(|| said.iter().find(|said| !said.is_empty())).copied().unwrap_or("")
}

/// Whether a list of countries and regions takes a request from `from`.
fn takes(list: &[&str], from: Option<&str>, mode: &str) -> bool {
    let Some(from) = from else { return mode == "known" && !list.is_empty() };
    let is_european = ["DE", "FR"].contains(&from);
    list.contains(&from)
        || (is_european && (list.contains(&"EU") || list.contains(&"EEA")))
        || (from == "NO" && list.contains(&"EEA"))
}

/// Whether a request comes from where everybody who says anything of it allows.
fn is_from_there(world: &World, grant: &Given) -> bool {
    let own = match (world.regions.is_empty(), world.country) {
        (false, _) => Some(world.regions.clone()),
        (true, country) => country.map(|country| vec![country]),
    };
    let of_contracts = grant.contracts.iter().filter_map(|line| counts(line, world.today).regions.clone());
    let modes = ["off", "known", "strict"];
    let of_classes = world.shown.as_ref().and_then(|shown| shown.geo).unwrap_or("off");
    let strictness = |mode: &str| modes.iter().position(|known| *known == mode);
    let mode = if strictness(of_classes) > strictness(world.mode) { of_classes } else { world.mode };
    mode == "off" || own.into_iter().chain(of_contracts).all(|list| takes(&list, world.from, mode))
}

/// The grant that allows, or why none does.
fn expected(world: &World) -> Result<usize, &'static str> {
    let allowing = world.grants.iter().position(|grant| lacks(grant, world.today).is_empty());
    let (at, lack) = match allowing {
        Some(at) => (at, ""),
        None => {
            let begun = (0..world.grants.len()).filter(|at| world.grants[*at].from <= world.today);
            let Some(last) = begun.max_by_key(|at| (world.grants[*at].from, *at)) else {
                return Err("SHARE_NOT_GRANTED");
            };
            (last, lacks(&world.grants[last], world.today))
        }
    };
    if lack.starts_with("GRANT") {
        return Err(lack);
    }
    if !world.scope.is_empty() && !world.scope.contains(&0) {
        return Err("TOKEN_OUT_OF_SCOPE");
    }
    if !lack.is_empty() {
        return Err(lack);
    }
    let purpose = world.grants[at].purpose;
    let is_for = |allowed: &Vec<&str>| purpose.is_some_and(|purpose| allowed.contains(&purpose));
    if world.table.as_ref().is_some_and(|allowed| !is_for(allowed)) {
        return Err("PURPOSE_NOT_ALLOWED");
    }
    if let Some(shown) = &world.shown {
        let why = keeps_back(shown, &world.grants[at], world.today);
        if !why.is_empty() {
            return Err(why);
        }
    }
    if !is_from_there(world, &world.grants[at]) {
        return Err("GEO_DENIED");
    }
    Ok(at)
}

fn on(day: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).unwrap() + TimeDelta::days(day)
}

fn share_id(number: u128) -> Uuid {
    Uuid::from_u128(50 + number)
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn succession(line: &[Contract], id: u128) -> AgreementSuccession {
    let members = line.iter().zip(0..).map(|(contract, position)| AgreementTerms {
        agreement_id: Uuid::from_u128(id + 1 + position as u128),
        position,
        state: AsWritten::new(contract.state),
        state_since: on(contract.since),
        activated_at: contract.activated.map(on),
        valid_from: on(contract.from),
        ends_at: on(contract.until),
        purposes: texts(&contract.purposes),
        kind: contract.kind.to_owned(),
        classes: texts(&contract.classes),
        regions: contract.regions.as_deref().map(texts),
    });
    // The store reads them in any order.
    let mut members: Vec<_> = members.collect();
    members.reverse();
    AgreementSuccession { id: Uuid::from_u128(id), members }
}

fn access(world: &World) -> ShareAccess {
    let share = Share {
        id: share_id(0),
        name: Name::parse(NameKind::Share, "s").unwrap(),
        spec: ShareSpec::default(),
        created_at: on(-9),
        updated_at: on(-9),
        revision: 1,
    };
    let grants = world.grants.iter().zip(0..).map(|(given, at)| Grant {
        id: Uuid::from_u128(at),
        share_id: share.id,
        recipient_id: Uuid::from_u128(2),
        valid_from: on(given.from),
        valid_until: on(given.until),
        purpose: given.purpose.map(|purpose| if given.is_loud { purpose.to_uppercase() } else { purpose.to_owned() }),
        agreement: given.referred.map(|day| Agreement {
            reference: "r".into(),
            sha256: None,
            valid_until: Some(on(day)),
        }),
        agreements: given
            .contracts
            .iter()
            .zip(1..)
            .map(|(line, number)| succession(line, 1_000 * (at + 1) + 100 * number))
            .collect(),
        granted_by: "o".into(),
        // Of grants that begin together, the later one explains.
        created_at: on(-9) + TimeDelta::seconds(at as i64),
        ending: given.ended.map(|day| Ending { at: on(day), reason: None, ended_by: "o".into(), replaced_by: None }),
    });
    let grants = grants.collect();
    ShareAccess { share, grants }
}

fn bearer(world: &World) -> Bearer {
    let recipient = Recipient {
        id: Uuid::from_u128(2),
        name: Name::parse(NameKind::Recipient, "acme").unwrap(),
        state: RecipientState::Active.into(),
        spec: RecipientSpec {
            country: world.country.map(str::to_owned),
            regions: texts(&world.regions),
            ..RecipientSpec::default()
        },
        created_at: on(-9),
        updated_at: on(-9),
        revision: 1,
    };
    let token = Token {
        id: Uuid::from_u128(3),
        recipient_id: recipient.id,
        credential: "default".into(),
        share_ids: world.scope.iter().copied().map(share_id).collect(),
        allowed_cidrs: vec![],
        created_at: on(-9),
        activated_at: Some(on(-9)),
        expires_at: Some(on(99)),
        revoked_at: None,
        last_used_at: None,
        unused_until: None,
    };
    Bearer { token, recipient, frozen: false }
}

fn geography(world: &World) -> Geography {
    let mode = match world.mode {
        "off" => GeoMode::Off,
        "known" => GeoMode::Known,
        _ => GeoMode::Strict,
    };
    Geography { mode, country: world.from.and_then(Country::parse) }
}

#[test]
fn random_worlds_are_decided_as_an_independent_model_says() {
    let mut dice = Dice(27);
    let mut met = std::collections::BTreeMap::<&str, u64>::new();
    for number in 0..WORLDS {
        let world = world(&mut dice);
        let (bearer, access, table) = (bearer(&world), access(&world), world.table.as_deref().map(texts));
        let requirements = world.shown.as_ref().map(|shown| Requirements {
            unconfirmed: shown.unconfirmed,
            refused: shown.is_refused.then(|| "PHI".to_owned()),
            agreements: shown
                .needs
                .iter()
                .map(|(class, sets)| {
                    let set = |set: &Vec<&str>| set.iter().map(|&kind| kind.to_owned()).collect();
                    ((*class).to_owned(), sets.iter().map(set).collect())
                })
                .collect(),
            geo: shown.geo.map(AsWritten::new),
            max_grant_days: shown.most_days.map(|days| days.try_into().unwrap()),
            ..Requirements::default()
        });
        let facts = Facts {
            now: on(world.today),
            address: IpAddr::from([192, 0, 2, 1]),
            bearer: Some(&bearer),
            target: Target::Share(Some(&access)),
            allowed_purposes: table.as_deref(),
            requirements: requirements.as_ref(),
            must_be_classified: world.shown.as_ref().is_some_and(|shown| shown.must_be_classified),
            geography: geography(&world),
        };
        let decided = decide(facts);
        let expected = expected(&world);
        let said = decided.map(|allowed| allowed.grant.unwrap().id.as_u128() as usize).map_err(|reason| reason.code());
        assert_eq!(said, expected, "world {number}: {world:?}");
        *met.entry(expected.err().unwrap_or("allowed")).or_default() += 1;
        // Until its end, an allowed request stays allowed, and at its end it is refused.
        if let Ok(allowed) = decided {
            let until = allowed.until().unwrap();
            assert!(until > facts.now, "world {number}: {world:?}");
            let at_end = decide(Facts { now: until, ..facts });
            let goes_on =
                at_end.is_ok_and(|later| later.grant.map(|grant| grant.id) == allowed.grant.map(|grant| grant.id));
            assert!(!goes_on, "world {number} goes on at {until}: {world:?}");
            let grant = &world.grants[expected.unwrap()];
            let mut days = world.today..world.today + 4 * DAYS.cast_signed();
            let end = days.find(|day| ["GRANT_EXPIRED", "AGREEMENT_ENDED"].contains(&lacks(grant, *day)));
            assert!(end.is_none_or(|day| until <= on(day)), "world {number} outlives its day {end:?}: {world:?}");
            let most = world.shown.as_ref().and_then(|shown| shown.most_days).map(|days| grant.from + days);
            assert!(
                most.is_none_or(|day| until <= on(day)),
                "world {number} outlives what its classes allow: {world:?}"
            );
        }
    }
    // The worlds meet every answer often enough to mean something.
    for code in ["UNCLASSIFIED_COLUMN", "RAW_NOT_ALLOWED", "AGREEMENT_MISSING", "GEO_DENIED"] {
        assert!(met.get(code).is_some_and(|count| *count > 50), "{code}: {met:?}");
    }
    let met_often = [
        "allowed",
        "AGREEMENT_ENDED",
        "AGREEMENT_INACTIVE",
        "PURPOSE_NOT_ALLOWED",
        "GRANT_EXPIRED",
        "GRANT_REVOKED",
        "SHARE_NOT_GRANTED",
        "TOKEN_OUT_OF_SCOPE",
    ];
    for code in met_often {
        assert!(met.get(code).is_some_and(|count| *count > 300), "{met:?}");
    }
}
