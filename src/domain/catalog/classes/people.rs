//! Given and family names of people, by which columns of names are recognised.
//!
//! The lists were written by hand for this program, from general knowledge of names that are common in North and South
//! America, Europe, the Middle East, and South and East Asia; no register or other collection was copied. They are far from
//! complete, and need not be: a column counts by the share of its values that they know.

/// Given names, in lower case without accents, sorted.
const GIVEN: &str = "aaron abdul abdullah abigail adam adele aditi aditya adrian agnes agnieszka ahmad ahmed aiden aisha akira alan \
albert alberto alejandra alejandro alessandro alex alexander alexandra alfred ali alice alicia alina alison allison alma amanda \
amelia amina amir amit amy ana anastasia andre andrea andreas andrew andrzej angel angela anil anita anja ann anna anne annette \
annika anthony antje antoine anton antonio anya april aria ariana arjun arnold arthur arturo asha ashley astrid audrey aurora ava \
avery axel barbara beatrice beatriz benjamin bernard bernd beth bettina betty beverly bianca birgit bjoern bjorn bob bogdan brandon \
brenda brian bruno bryan caleb camila camille carla carlos carmen carol carolina caroline carolyn cecilia celine cesar charles \
charlotte chen cheryl chiara chloe chris christian christina christine christoph christopher cindy claire clara claudia clemens \
cristina cynthia daisy dana daniel daniela danielle darius david deborah debra denise dennis derek diana diane diego dieter dirk \
dmitri dominik donald donna doris dorothy douglas dylan edgar edith eduardo edward elena eleanor eli elias elif elijah elisa \
elisabeth elizabeth ella ellen elsa emil emilia emily emma eric erica erik erika ernst ethan eugene eva evelyn fatima felipe felix \
fernanda fernando finn florian frances francesca francesco francis francisco frank franz fred frederik friedrich gabriel gabriela \
gareth gary george gerald gerhard giovanni gisela giulia gloria gordon grace greg gregory greta guillaume gunther gustav hana hannah \
hans harold harry hassan heather hector heidi heike heinrich helen helena helga helmut henri henrik henry hiroshi holger holly hugo \
ian ibrahim ida ignacio ilse imran ines ingrid irene irina iris isaac isabel isabella isla ivan jack jacob jacqueline jakob jakub \
james jamie jan jane janet janice jasmine jason javier jean jeffrey jennifer jens jeremy jerry jessica jill jing joan joanna joao \
joe joel johan johann johanna johannes john johnny jonas jonathan jorge jose joseph joshua juan juana judith judy julia julian julie \
juliette joerg juergen jun jurgen guenther justin kai karen karin karl karla katarzyna kate katharina katherine kathleen kathryn katja katrin kazuko keith \
kelly kenji kenneth kenta kevin kim kimberly kirsten klaus krishna kristina krzysztof kumar kurt kyle lakshmi lara larry lars laura \
lauren laurent lawrence layla lea leah lena leo leon leonardo leonie lewis liam lily lina linda lisa logan lorenzo louis louise luca \
lucas lucia lucy luis luisa lukas luke lydia madison magdalena malik manfred manuel manuela marc marcel marco marcos marcus margaret \
maria mariana marie marina mario marion marjorie mark marko markus marta martha martin martina mary mason mateo mathias matteo \
matthew matthias maurice max maya megan mehmet mei mia michael michal michelle miguel mikael mila miriam mohamed mohammed monica \
monika muhammad mustafa nadia naomi natalia natalie nathan neha nicholas nicolas nicole niklas nikolai nina noah nora oliver olivia \
olga omar oscar otto pablo pamela patricia patrick paul paula paulo pavel pedro peter petra philip philipp pierre piotr priya rachel \
rafael rahul rainer raj ralf ralph ramon raquel raymond rebecca renate ricardo richard rita robert roberto robin rodrigo roger roland \
ronald rosa rose roy ruth ryan sabine sakura salma sam samantha samir samuel sandra sanjay sara sarah scott sean sebastian soeren serena \
sergei sergio sharon sheila shirley silvia simon simone sofia sophia sophie stefan stefanie stella stephanie stephen steven sunita \
susan susanne svetlana sylvia takashi tanja tatiana teresa theo theodor theresa thomas tim timothy tina tobias todd tom tomasz toni \
tyler ulrich ulrike uma ursula ute uwe valentina valeria vanessa vera veronica victor victoria vijay vincent virginia vivian vladimir \
walter wanda wayne wei wendy werner wilhelm william willie wolfgang xavier yan yara yasmin ying yuki yusuf yuto yvonne zachary zoe \
zofia";

/// Family names, in lower case without accents, sorted.
const FAMILY: &str = "adams aguilar ahmed akhtar alexander ali allen alvarez anderson andersen andersson bailey baker bakker barbieri barnes \
bauer becker bell bennett berg bernard bianchi black bonnet boucher bouchard braun brooks brown bruno bryant butler campbell carter \
castillo castro chang chavez chen choi clark colombo cohen coleman collins contreras cook cooper costa cox cruz dasilva dang \
davies davis dejong delgado demir devries diaz dietrich dijkstra do dubois dupont durand edwards engel esposito evans fernandes \
fernandez ferrari ferreira fischer flores fontaine foster fournier francois frank friedrich fuchs fujita garcia garnier gomez \
gonzales gonzalez goodman graham graf gray green greco griffin gross gruber guerrero gupta gutierrez guzman haas hahn hall hamilton \
hansen harris harrison hartmann hayashi hayes henderson henry hernandez herrera hill hoang hoffman hoffmann horvath howard huang \
huber hughes hussain ito ivanov ivanova iyer jackson jacobs jansen janssen jansson jain james jenkins jensen jimenez johansson \
johnson jones jordan joshi jung kaiser kaya keller kelly khan kim king klein kobayashi koch kohler kovacs kowalski kramer krause \
krishnan kruger kuhn kumar kuznetsov lam lang larsen larsson lee lefebvre lehmann leroy levy lewandowski lewis li lim lin liu long \
lopez lorenz ludwig maier malik marino martin martinez martins mason mayer mcdonald medina mehta mendez mendoza meyer meier miller \
mishra mitchell mohammed molina moore morales moreau moreno morgan morris muller mueller munoz murphy murray myers nagy nair \
nakamura nelson neumann nguyen nielsen nilsson nowak obrien oliveira olsen olson ortega ortiz otto owens ozturk park parker patel \
patil pereira perez perry peters petersen peterson petit pham phillips popescu popov powell price ramirez ramos reddy reed reyes \
reynolds ricci richard richardson richter rivera roberts robinson rodrigues rodriguez rogers romano romero ross roth rossi roux ruiz \
russell russo saito sanchez sanders santos sato schafer schaefer schmid schmidt schmitt schneider schroder schroeder schubert schulte \
schulz schulze schumacher schuster schwarz scott seidel shah sharma silva simmons simon singh smirnov smit smith sommer song souza \
soto stein stewart sullivan suzuki svensson takahashi tan tanaka taylor thomas thompson torres toth tran tremblay turner vandijk \
vargas vasquez vega verma vidal visser vogel vogt volkov wagner walker wallace wang ward washington watanabe watson weber wei weiss \
werner west white williams wilson winkler winter wojcik wolf wong wood wright wu xu yamada yamamoto yang yilmaz yoshida young yu \
zhang zhao zhou zhu ziegler zimmermann";

/// The most words of a person's name.
const MOST_NAMES: usize = 5;

/// Titles and particles, which say nothing.
const BESIDE: &[&str] = &[
    "dr", "mr", "mrs", "ms", "miss", "prof", "sir", "herr", "frau", "jr", "sr", "ii", "iii", "md", "phd", "de", "da",
    "del", "della", "dos", "der", "den", "di", "van", "von", "zu", "la", "le", "el", "al", "bin", "ibn", "y", "san",
];

/// Every known name, for quick look-ups.
pub(super) struct People {
    given: Vec<&'static str>,
    family: Vec<&'static str>,
}

/// What a value looks like, taken as a person's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    /// It cannot be one.
    None,
    /// It has the form of one.
    Form,
    /// A word of it is a known name.
    Known,
    /// It has two known names or more.
    Whole,
}

impl People {
    /// Sorts the lists.
    pub(super) fn new() -> Self {
        let sorted = |text: &'static str| {
            let mut names: Vec<&str> = text.split_ascii_whitespace().collect();
            names.sort_unstable();
            names
        };
        Self { given: sorted(GIVEN), family: sorted(FAMILY) }
    }

    /// What `text` looks like.
    pub(super) fn likeness(&self, text: &str) -> Likeness {
        // Made-up data has numbers behind names.
        let is_letter = |c: char| c.is_alphanumeric() || " '’.-,".contains(c);
        let begins_with_letter = |word: &str| word.starts_with(char::is_alphabetic);
        if text.len() > 80 || !text.chars().all(is_letter) {
            return Likeness::None;
        }
        let (mut words, mut known) = (0, 0);
        for word in text.split([' ', ',', '.']).filter(|word| !word.is_empty()) {
            if !begins_with_letter(word) {
                return Likeness::None;
            }
            let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
            if word.contains(|c: char| c.is_numeric()) {
                return Likeness::None;
            }
            let plain = super::words::words_of(&[word.to_lowercase()]).concat();
            if BESIDE.contains(&plain.as_str()) {
                continue;
            }
            words += 1;
            known += usize::from(self.is_known(&plain));
        }
        match (words, known) {
            (0, _) => Likeness::None,
            (words, _) if words > MOST_NAMES => Likeness::None,
            (_, 0) => Likeness::Form,
            (_, 1) => Likeness::Known,
            _ => Likeness::Whole,
        }
    }

    fn is_known(&self, name: &str) -> bool {
        self.given.binary_search(&name).is_ok() || self.family.binary_search(&name).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_with_accents_titles_and_particles() {
        let people = People::new();
        for text in ["Müller, Jürgen", "Dr. Anna Smith", "José García", "Ludwig van Schmidt"] {
            assert_eq!(people.likeness(text), Likeness::Whole, "{text}");
        }
        assert_eq!(people.likeness("ANNA"), Likeness::Known);
        assert_eq!(people.likeness("Xyzzy Plugh"), Likeness::Form);
        for text in ["", "A1B", "12", "a b c d e f g h", "x@y"] {
            assert_eq!(people.likeness(text), Likeness::None, "{text}");
        }
        assert!(people.given.len() > 500 && people.family.len() > 350);
    }
}
