"""Texts for comparing tokenizers: real prose and code, many languages, and what breaks tokenizers."""

import pathlib
import random
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Prose that every Debian or Ubuntu carries.
LICENSES = pathlib.Path("/usr/share/common-licenses")

SENTENCES = [
    "The quick brown fox can't jump over 13 lazy dogs; it'll try again at 10:45 a.m., won't it?",
    "I'd say we've DONE it: YOU'RE right, they're wrong, and SHE'S not sure... (or is she?)",
    "Der Wärmetauscher läuft größtenteils störungsfrei, außer an heißen Tagen über 35 °C.",
    "L'été dernier, Zoé a mangé des crêpes à l'œuf près du château — « délicieux », dit-elle.",
    "El niño preguntó: ¿cuántos años tiene tu abuela? ¡Noventa y siete, según mi cuñada!",
    "Não há razão para preocupação; amanhã as crianças irão à praça com o avô João.",
    "Zażółć gęślą jaźń, powiedział źle wychowany łoś w Łodzi.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "İstanbul'da ılık bir gün; ığdır, şişli, çağ ve güneş.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю в 2024 году.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, είπε ο Σωκράτης.",
    "נוסעים יקרים, הרכבת תצא בעוד 5 דקות מרציף מספר 3.",
    "ذهبت إلى السوق واشتريت ٣ كيلوغرامات من التفاح الأحمر، ثم عدتُ.",
    "मैंने कल १२ किताबें खरीदीं, लेकिन उनमें से कोई भी नहीं पढ़ी।",
    "আমি বাংলায় গান গাই, আমি বাংলার গান গাই।",
    "நான் நேற்று கடைக்குச் சென்று பழங்கள் வாங்கினேன்.",
    "ฉันไปตลาดเมื่อวานนี้และซื้อผลไม้สามกิโลกรัม",
    "今天天气很好,我们去公园散步吧!一共走了3.5公里。",
    "昨日、私は図書館で本を三冊借りました。カタカナとひらがなと漢字。",
    "어제 저는 시장에서 사과 세 개를 샀습니다. 맛있었어요!",
    "Tôi đã đi chợ hôm qua và mua ba cân táo đỏ rất ngon.",
    "ልጆቹ ትናንት ወደ ገበያ ሄዱ።",
    "გუშინ ბაზარში სამი კილო ვაშლი ვიყიდე.",
    "Մենք երեկ գնացինք շուկա։",
    "🙂👍🏽 family 👨‍👩‍👧‍👦 flags 🇩🇪🇯🇵 hearts ❤️🧡 keycap 1️⃣ 🏴󠁧󠁢󠁳󠁣󠁴󠁿 done ✅",
    "e\u0301 is é, A\u030a is Å, \u1e9b\u0323, \u212b, \u2126, \ufb01nd the \uff26\uff35\uff2c\uff2c width, \u00bd cup, x\u00b2",
    "for (size_t i = 0; i < n; ++i) { sum += a[i] * b[i]; }  // O(n)",
    "def f(x: int = 0) -> str:\n\treturn f\"{x!r:>10}\"\n\n\nclass A(B):\n    pass\n",
    "SELECT name, COUNT(*) FROM t WHERE id IN (1,2,3) GROUP BY 1 HAVING COUNT(*) > 0x1F;",
    "{\"key\": [1, 2.5e-10, null, true], \"nested\": {\"ä\": \"\\u00e9\\n\"}}",
    "<div class=\"a b\" data-x='1'>&nbsp;</div><!-- comment -->\r\n<br/>",
    "https://example.com/a/b?q=1&r=%20x#frag user.name+tag@mail.example.org C:\\Users\\x\\file.txt",
    "3.14159 1,000,000 1e10 0xDEADBEEF ½ ² Ⅷ ٣٤٥ ४५६ ３４５ 12345678901234567890",
    "▁ is SentencePiece's blank: ▁▁ a▁b ▁x, <0x0A> is a byte token, <s> [INST] <|im_start|> <|eot_id|> </s>",
]

WHITE_SPACE = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", "\u00a0", "\u3000", "\u2028", "\u200b", "\u180e",
               "\u0085", "\x0b", "\x0c", " \n ", "\t\t\t", "\n \n\t\n"]
RANGES = [(0x00, 0x20), (0x20, 0x7F), (0x7F, 0x250), (0x250, 0x370), (0x300, 0x370), (0x370, 0x600), (0x600, 0x900),
          (0x900, 0xE00), (0xE00, 0x1200), (0x1100, 0x1200), (0x1E00, 0x2100), (0x2000, 0x2070), (0x2100, 0x2C00),
          (0x3000, 0x3400), (0x4E00, 0xA000), (0xAC00, 0xD7A4), (0xE000, 0xE100), (0xF900, 0xFB00), (0xFE00, 0x10000),
          (0x10000, 0x10800), (0x1D400, 0x1D800), (0x1F300, 0x1FA00), (0x20000, 0x20400), (0xE0000, 0xE0200)]


def is_common(character):
    """Whether all libraries know it. PCRE2 and Python of Debian 12 have Unicode 14, the reference has newer split
    patterns and an older normalizer, which orders only marks that it knows."""
    if unicodedata.category(character) == "Cn":
        return False
    is_mark = unicodedata.category(character).startswith("M")
    return not is_mark or unicodedata.ucd_3_2_0.category(character) != "Cn"


def prose():
    """English, in texts of 8,000 characters."""
    text = "".join((LICENSES / name).read_text() for name in ("GPL-2", "GPL-3", "LGPL-2.1", "Apache-2.0", "Artistic"))
    return [text[i:i + 8000] for i in range(0, len(text), 8000)]


def code():
    """This project's own sources."""
    folders = ("common", "router", "engine", "tokenizer", "scripts", "tools", "docs", "tests/e2e")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*"))
             if path.suffix in (".cc", ".h", ".py", ".md", "")]
    return [path.read_text(encoding="utf-8") for path in files if path.is_file()]


def random_texts(count, size, seed):
    """Characters of one range, of several, and sentences with odd white space between and inside them."""
    rng = random.Random(seed)

    def character(bounds):
        while not is_common(found := chr(rng.randrange(*bounds))):
            pass
        return found

    texts = []
    for i in range(count):
        parts, length = [], 0
        bounds = rng.choice(RANGES)
        while length < size:
            kind = rng.random()
            if i % 3 == 0:
                part = "".join(character(bounds) for _ in range(rng.randrange(1, 30)))
            elif i % 3 == 1 and kind < 0.5:
                part = "".join(character(rng.choice(RANGES)) for _ in range(rng.randrange(1, 12)))
            elif kind < 0.75:
                part = rng.choice(SENTENCES)
            else:
                words = rng.choice(SENTENCES).split(" ")
                part = "".join(word + rng.choice(WHITE_SPACE) * rng.randrange(1, 5) for word in words)
            parts.append(part + rng.choice(["", "", rng.choice(WHITE_SPACE)]))
            length += len(parts[-1])
        texts.append("".join(parts))
    return texts


def odd_texts():
    runs = [unit * count for unit in (*WHITE_SPACE, "a", "aA", "1", "!", "'", "é", "漢", "🙂", "▁", "'s", "ſ", "\u0301")
            for count in (1, 2, 3, 7, 100, 1000)]
    return ["", " ", "a", " a", "a ", *SENTENCES, *runs, *(a + "x" + b for a in WHITE_SPACE for b in WHITE_SPACE),
            "\0", "a\0b", "\ufeffbom", "\ufffd", "a\u0300\u0323\u0301b", "\u0301 leading mark", "K\u212a ſs 'ſ 'ſx 'S"]


def mixed():
    """At least 2 MB of all of it."""
    return [*odd_texts(), *prose(), *code(), *random_texts(count=300, size=4000, seed=11)]
