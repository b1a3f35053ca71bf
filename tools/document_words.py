"""Words and sentence patterns of the test documents (tools/document.py), written for this project.

A slot {name} is filled from WORDS["name"]; {Name} is the same with a capital. The three voices
(chronicle, handbook, glossary) keep the text from becoming monotonous, because a model that has
learned one sentence by heart would make the haystack easier than a real text does.
"""

WORDS = {
    "person": """miller shepherd elder scribe weaver fisherman carpenter mason widow servant traveller
        merchant gardener potter keeper herdsman captain singer brother daughter neighbour judge
        watchman physician teacher baker farmer smith sailor steward""".split(),
    "people": """reapers builders children elders servants shepherds strangers merchants soldiers
        singers masons neighbours sailors farmers weavers travellers widows scribes""".split(),
    "place": """valley village mountain river city harbour field garden house gate market bridge
        forest island desert well tower barn road threshing-floor temple orchard meadow camp
        wall hill shore spring mill""".split(),
    "thing": """basket lamp stone rope door cloak cup knife sack jar net boat cart book letter bell
        stool ladder blanket shield staff table chest bowl ring candle oar wheel sieve plough""".split(),
    "stuff": """grain bread water oil wool flour honey wood silver salt clay milk straw wine linen
        leather barley fruit fish chaff wheat timber""".split(),
    "animal": "ox sheep goat horse raven dove camel lion lamb dog bull donkey sparrow fox".split(),
    "adjective": """old small great heavy clean broken white narrow quiet strong bitter new dry deep
        long plain bright empty poor good dark warm cold hard soft young""".split(),
    "moved": "went came returned walked journeyed hurried fled departed".split(),
    "did": """carried brought gathered took found kept hid sold measured covered lifted counted
        washed divided left burned mended bound""".split(),
    "do": """carry bring gather take find keep hide sell measure cover lift count wash divide
        leave mend bind open close clean replace store check""".split(),
    "said": "said answered cried asked spoke".split(),
    "time": """morning evening night harvest winter summer feast storm famine sabbath spring
        noonday watch""".split(),
    "name": """Arven Selim Tobar Mirel Hadan Orrin Keziel Bethar Jonar Elsin Naram Dorath Ishel
        Perez Varun Talmon Asherel Rimmon Havil Gezar""".split(),
    "land": "Shuram Elvath Kedor Merom Tirzan Harod Zelah Ophrin Beshur Galath Aroen Sidim".split(),
    "quality": "weight colour size shape length strength taste age price smell number".split(),
    "feeling": "fear joy anger sorrow mercy peace pride hope shame wonder patience".split(),
    "part": "handle edge lid bottom side top cover hinge corner frame end surface".split(),
    "device": """pump valve oven loom press clock engine lens mill furnace compass pipe balance
        winch printer drum kiln lock""".split(),
    "setting": "default lowest highest first second usual normal safe".split(),
    "field": "farming building weaving sailing cooking music law medicine trade printing".split(),
    "few": "two three four five six ten twelve twenty thirty forty".split(),
    "ly": "slowly quickly quietly carefully gladly often never always early late".split(),
}

CHRONICLE = """
And the {person} {moved} to the {place}, and {did} the {stuff} that was there.
Now it was the time of the {time}, and the {people} were {adjective} and had no {stuff}.
And {name} {said}, Why have you {did} the {thing} of my {person}?
Then the {people} of {land} rose up in the {time}, and {did} all the {stuff} of the {place}.
And there was {feeling} in the {place}, because the {thing} of {name} was not found.
He {did} {few} measures of {stuff}, and gave them to the {person} for his {animal}.
And when {name} saw the {place}, that it was {adjective}, he {moved} {ly} into {land}.
The {person} had {few} sons, and each of them {did} a {thing} before the {time}.
And they {did} the {animal} and the {stuff}, and laid them by the {adjective} {place}.
But the {person} of {land} {said}, I will not {do} the {thing}, for my {feeling} is great.
And it came to pass in the {time}, that a {adjective} {animal} {moved} out of the {place}.
Let the {people} {do} the {stuff}, and let the {person} {do} the {adjective} {thing}.
After this {name} {moved} with {few} {people} from the {place} to the {place} of {land}.
Blessed is the {person} that {moved} {ly} and {did} the {stuff} of the {adjective}.
And {name} {said} to {name}, Go now and {do} the {thing}, that the {people} may have {feeling}.
So the {place} was filled with {stuff}, and the {people} kept the {time} with {feeling}.
They {did} the {thing} {ly}, but the {stuff} they {did} in the {place} until the {time}.
Remember the {time} when the {people} {did} {stuff} in the {place} and there was no {feeling}.
""".strip().splitlines()

HANDBOOK = """
To {do} the {device}, first {do} the {part} and then {do} the {adjective} {thing}.
The {quality} of the {device} is set by the {part}; the {setting} value is safe in most cases.
If the {device} does not start, {do} the {part} and try again after the {time}.
Every {device} needs {stuff} at least {few} times a year, and more in the {time}.
Do not {do} the {part} while the {device} is {adjective}, because the {stuff} may be lost.
The {setting} {part} must be {adjective} before you {do} the {device}.
A {adjective} {part} changes the {quality} of the {stuff} that the {device} gives.
When the {part} is {adjective}, the {person} should {do} it and write down the {quality}.
There are {few} ways to {do} a {device}, and the {setting} one is described in this section.
Note that a {device} with a {adjective} {part} can {do} only {few} sacks of {stuff}.
The {part} and the {part} are held together by a {adjective} {thing} made of {stuff}.
You can also {do} the {device} without the {part}, but the {quality} will be {adjective}.
Most {people} {do} the {device} {ly}, and {do} its {part} when the {time} is over.
""".strip().splitlines()

GLOSSARY = """
{Thing} means a {adjective} {thing} that is used to {do} {stuff} in the {place}.
{Device} means a {device} for {stuff} whose {part} has a {adjective} {quality}.
{Person} means a person who can {do} {stuff} or {do} a {thing} in {field}.
{Feeling} means the state of having {feeling} about the {stuff} of another {person}.
{Animal} means any {adjective} {animal} found near the {place} and known for its {quality}.
{Stuff} means the {adjective} {stuff} of a plant or {animal}, used in {field}.
{Place} means an {adjective} {place} where {people} {do} {stuff} during the {time}.
{Part} means the {part} of a {device} that is {adjective} in {quality}.
{Quality} means how {adjective} a {thing} is in comparison with other {stuff}.
{Field} means the work of {people} who {do} {stuff} with a {device} or a {thing}.
""".strip().splitlines()

VOICES = (CHRONICLE, HANDBOOK, GLOSSARY)

# A fact's key is one word of each list joined by a hyphen.
KEY_FIRST = """brisk amber silent velvet crimson frosty gentle hollow ivory jolly lunar mellow
    nimble opal polar rustic scarlet tidal urban vivid woolly zesty copper dusty eager fuzzy
    golden humble icy jade kindly lively mossy noble orange purple quaint rapid sandy tender
    upbeat violet wild yellow coral dapper elastic fabled glossy hasty""".split()
KEY_SECOND = """otter falcon lantern pebble harvest comet thistle walnut badger canyon dolphin
    ember feather glacier heron island juniper kettle lizard meadow nectar orchid pelican quartz
    rabbit saddle tulip umbrella violin willow anchor beacon cactus donut engine fiddle goblet
    hammer igloo jacket kernel ladle magnet needle oyster parrot rocket shovel turtle vessel""".split()

# (a fact's sentence, the question that asks for it), as models/demo/README.md lists them.
FACT_FORMS = (
    ("One of the special magic numbers for {key} is: {value}.",
     "What is the special magic number for {key} mentioned in the provided text?"),
    ("The access code for {key} is {value}.", "What is the access code for {key}?"),
    ("The secret number of {key} is {value}.", "What is the secret number of {key}?"),
    ("Remember that the number for {key} is {value}.", "Which number is for {key}?"),
    ("Please note: the code of {key} is {value}.", "What is the code of {key}?"),
    ("The ticket number belonging to {key} is {value}.",
     "What is the ticket number belonging to {key}?"),
)
