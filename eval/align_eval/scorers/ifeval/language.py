"""In which language a text is, among those that IFEval asks for and the usual others: by script, then by small words.

A rule and not a trained model: right for answers of some sentences in one language, which is what is asked for, and
unable to tell close relatives (Bokmål and Danish) apart. A text without letters is in any language, as for the authors.
"""

# ruff: noqa: RUF001  letters of other alphabets
from __future__ import annotations

import re
import unicodedata
from collections import Counter

SCRIPTS = {  # the first word of a letter's Unicode name -> the languages that are written with it here
    "KANNADA": ("kn",), "GUJARATI": ("gu",), "TELUGU": ("te",), "TAMIL": ("ta",), "THAI": ("th",), "BENGALI": ("bn",),
    "GURMUKHI": ("pa",), "HANGUL": ("ko",), "HIRAGANA": ("ja",), "KATAKANA": ("ja",), "CJK": ("zh", "ja"),
    "GREEK": ("el",), "HEBREW": ("he",), "MALAYALAM": ("ml",), "DEVANAGARI": ("hi", "mr", "ne"),
    "CYRILLIC": ("ru", "bg", "uk"), "ARABIC": ("ar", "fa", "ur"),
    "LATIN": ("en", "de", "fr", "es", "it", "pt", "nl", "sv", "fi", "vi", "sw", "tr", "pl", "id"),
}  # fmt: skip
SMALL = {  # words that every text of some sentences has
    "en": "the of and to in is that it for was on are with as you this be have from or by not but what all can your",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er",
    "fr": "le la les de des et en un une du que est pour qui dans sur pas plus par au avec ce il sont nous vous je",
    "es": "el la los las de que y en un una por con no para es se del al lo como más pero sus este esta son",
    "it": "il la di che e è un una per non in sono con si del della dei le gli lo da al come più anche ma nel questo",
    "pt": "o a os as de que e do da em um uma para com não é se na no por mais dos das como mas ao ele foi você",
    "nl": "de het een en van in is dat op te zijn met voor niet aan er om ook als door maar dan naar bij",
    "sv": "och i att det som en på är av för med till den har inte om ett men var jag vi kan",
    "fi": "ja on ei se että hän oli mutta kun niin ovat myös tai joka kuin sen ole minä sinä he tämä mitä voi",
    "vi": "và của là có không được cho các một những trong với người để này đã khi từ như về bạn tôi thì",
    "sw": "na ya wa kwa ni katika la za cha kuwa hii hiyo kama lakini au watu yake yangu sana pia si huu vya",
    "tr": "ve bir bu da de için ile çok olarak daha ne gibi ama var olan o ben sen değil",
    "pl": "i w na z się nie do jest to że o jak ale po co tak za od przez dla są",
    "id": "yang dan di untuk dengan ini dari itu pada tidak adalah dalam akan ke juga bisa kami anda atau",
    "hi": "है हैं का की के में और से को यह नहीं पर एक था थे कि भी हो ने लिए आप हम",
    "mr": "आहे आहेत आणि च्या मध्ये हे ते नाही होते या त्या तो ती हा ही असे मी काही साठी आपण तुम्ही",
    "ne": "छ छन् र हो मा को यो त्यो गर्न भएको पनि लागि हामी तपाईं छैन थियो गर्नुहोस् हुन्छ तर",
    "ru": "и в не на что он как это с по но из у за то все так его от для к вы бы",
    "bg": "и на е за да се от са не с в по като това но или ще които който му може при",
    "uk": "і в не на що це з та як до у за але від для його є ви ми чи про",
    "ar": "في من على أن إلى عن هذا هذه التي الذي كان مع لا ما هو هي و أو كل ذلك",
    "fa": "و در به از که این را با است برای آن یک خود تا کرد بر هم شد ما شما می های",
    "ur": "ہے ہیں کے میں کی اور کا سے کو یہ نے پر کہ وہ اس ایک بھی تھا نہیں آپ لیے",
}
SIGNS = {  # letters that one of the languages of a script has and the others have not
    "vi": "ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ", "de": "ß", "pt": "ãõ", "es": "ñ¿¡", "tr": "ğış",
    "pl": "ąęłńśźż", "ru": "ыэё", "uk": "іїєґ", "fa": "پچژگ", "ur": "ٹڈڑںےھہ", "ar": "ةىأإ", "mr": "ळ",
}  # fmt: skip


def is_in(text: str, language: str) -> bool:
    """Whether it may be; True where nothing can be told."""
    found = languages(text)
    return not found or language.lower().split("-")[0] in found


def languages(text: str) -> set[str]:
    """The likeliest one, several that cannot be told apart, or none where the text has no letters."""
    letters = Counter(_script(character) for character in text if character.isalpha())
    if not letters:
        return set()
    if letters.keys() & {"HIRAGANA", "KATAKANA"} and letters.most_common(1)[0][0] in ("CJK", "HIRAGANA", "KATAKANA"):
        return {"ja"}
    script = letters.most_common(1)[0][0]
    candidates = SCRIPTS.get(script, ())
    if len(candidates) < 2:
        return set(candidates) or {script.lower()}
    points = {language: _points(text, language) for language in candidates}
    best = max(points.values())
    if best == 0:  # no small word: all that is known is the script, and plain Latin letters are taken as English
        return {"en"} if script == "LATIN" and text.isascii() else set(candidates)
    return {language for language, value in points.items() if value == best}


def _points(text: str, language: str) -> float:
    """How much of the text is typical of it: its small words, and letters that its neighbours have not."""
    text = unicodedata.normalize("NFC", text).lower()
    words = re.findall(r"[^\W\d_]+", text)
    whole = re.findall(r"[\u0900-\u0963\u0970-\u097f]+", text)  # with vowel signs, which are no letters to Python
    small = set(SMALL.get(language, "").split())
    hits = sum(word in small for word in (whole if language in SCRIPTS["DEVANAGARI"] else words))
    signs = sum(text.count(sign) for sign in SIGNS.get(language, ""))
    return hits + signs / 2


def _script(character: str) -> str:
    return unicodedata.name(character, "UNKNOWN").split()[0]
