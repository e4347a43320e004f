"""Characters that look like an ASCII character and that NFKC leaves as they are.

Taken from Unicode's `confusables.txt` (UTS #39) as the package `confusable-homoglyphs` 3.3.1 carries it, of the Latin,
Greek, Cyrillic, Cherokee, Lisu, Coptic, Armenian, Deseret and Tifinagh scripts, and of dashes and quotes; and from the
character names: small capitals, negative circled, squared and parenthesized letters and digits, regional indicators,
Latin letters with a hook or a stroke, turned, reversed, open and insular ones, and phonetic ones. Left out are
letters that look like a digit, and U+03C3, whose capital looks like nothing in ASCII. With a letter, its other case
is in the table.
"""

from __future__ import annotations

from typing import Final

_LOOK_ALIKES: Final[dict[str, str]] = {  # code points in hexadecimal
    '"': "201c 201d 201e 201f 2033",
    "'": "b4 2b9 2bb 2bc 2bd 2be 2c8 2ca 2cb 2f4 384 55a 55d 1fbd 1fbf 1ffd 1ffe 2018 2019 201b 2032 2035",
    "(": "2768 2772 3014 fd3e",
    ")": "2769 2773 3015 fd3f",
    "*": "204e 2217",
    "+": "16ed 2795",
    "-": "2d7 2010 2011 2012 2013 2014 2015 2043 2212 2796 2e3a 2e3b fe58",
    "/": "1735 2041 2044 2215 2571 27cb 29f8 2f03 1d23a",
    "0": "24ff 1f10b 1f10c",
    "1": "2474 2488 24f5 2776 2780 278a",
    "2": "2475 2489 24f6 2777 2781 278b",
    "3": "2476 248a 24f7 2778 2782 278c",
    "4": "2477 248b 24f8 2779 2783 278d",
    "5": "2478 248c 24f9 277a 2784 278e",
    "6": "2479 248d 24fa 277b 2785 278f",
    "7": "247a 248e 24fb 277c 2786 2790",
    "8": "247b 248f 24fc 277d 2787 2791",
    "9": "247c 2490 24fd 277e 2788 2792",
    ":": "2f8 589 16ec 205a 2236 a789",
    "A": "23a 391 410 13aa 2c6d a4ee 1f150 1f170 1f1e6 1f110 2c6f",
    "B": "181 182 243 392 412 13f4 a4d0 a796 a7b4 1f151 1f171 1f1e7 1f111",
    "C": "187 23b 3f9 421 13df 2ca4 a4da a792 a7c4 10415 1f152 1f172 1f1e8 1f112 a73e",
    "D": "189 18a 18b 500 13a0 a4d3 a7c7 1f153 1f173 1f1e9 1f113 a779",
    "E": "246 395 415 4bc 13ac 2d39 a4f0 1f154 1f174 1f1ea 1f114 18e 190 a7ab 18f",
    "F": "191 3dc 554 a4dd a798 1d213 1f155 1f175 1f1eb 1f115 a77b",
    "G": "193 1e4 50c 551 13c0 13f3 a4d6 a7a0 a7ac 1f156 1f176 1f1ec 1f116 a77d a77e a7d0",
    "H": "397 41d 4ba 540 13bb 2c67 2c8e a4e7 a7aa 1f157 1f177 1f1ed 1f117 a78d",
    "I": "196 197 399 406 4c0 2c92 a646 a7ae 1f158 1f178 1f1ee 1f118",
    "J": "248 37f 408 13ab a4d9 a7b2 1f159 1f179 1f1ef 1f119",
    "K": "198 39a 41a 13e6 2c69 2c94 a4d7 a740 a742 a744 a7a2 1f15a 1f17a 1f1f0 1f11a a7b0",
    "L": "23d 13de 2c60 2c62 2cd0 a4e1 a748 a7ad 1041b 1d22a 1f15b 1f17b 1f1f1 1f11b a780",
    "M": "39c 3fa 41c 13b7 2c6e 2c98 a4df 1f15c 1f17c 1f1f2 1f11c",
    "N": "19d 220 39d 548 54c 2c9a a4e0 a790 a7a4 1f15d 1f17d 1f1f3 1f11d",
    "O": "19f 39f 41e 555 2c9e 2d54 a4f3 a74a a74c 10404 1f15e 1f17e 1f1f4 1f11e 186",
    "P": "1a4 3a1 420 13e2 2c63 2ca2 a4d1 a750 a752 a754 1f15f 1f17f 1f1f5 1f11f",
    "Q": "24a 51a 533 536 2d55 a756 a758 1f160 1f180 1f1f6 1f120",
    "R": "1a6 24c 413 13a1 13b1 13d2 2c64 2c84 a4e3 a7a6 1d216 1f161 1f181 1f1f7 1f121 a782",
    "S": "1bc 405 54f 13d5 13da 2c7e a4e2 a7a8 a7c5 a7c9 10420 1f162 1f182 1f1f8 1f122 a784",
    "T": "1ac 1ae 23e 3a4 422 13a2 2ca6 a4d4 1f163 1f183 1f1f9 1f123 a786 a7b1",
    "U": "54d a4f4 a79e a7b8 1f164 1f184 1f1fa 1f124 1b1",
    "V": "1b2 474 13d9 2d38 a4e6 a75e 1d20d 1f165 1f185 1f1fb 1f125 245",
    "W": "19c 460 51c 531 13b3 13d4 2c72 a4ea 1f166 1f186 1f1fc 1f126",
    "X": "3a7 425 2cac 2d5d a4eb a7b3 1f167 1f187 1f1fd 1f127",
    "Y": "194 1b3 24e 393 3a5 3d2 423 4ae 13a9 13bd 1efe 2ca8 a4ec 1f168 1f188 1f1fe 1f128",
    "Z": "1b5 224 396 13c3 2c6b 2c7f a4dc a7c6 1f169 1f189 1f1ff 1f129",
    "a": "251 3b1 430 1d00 1d8f 2c65 ab7a 249c 250",
    "b": "180 183 184 185 253 299 3b2 42c 432 44c 13cf 13fc 1d6c 1d80 a797 a7b5 ab9f 249d 1d03",
    "c": "188 23c 255 3f2 441 1d04 2ca5 a793 a794 abaf 1043d 249e a73f",
    "d": "18c 221 256 257 501 13e7 1d05 1d6d 1d81 1d91 a4d2 a7c8 ab70 abb7 249f a77a",
    "e": "247 3b5 435 4bd 1d07 1d92 2c78 ab32 ab7c 24a0 1dd 258 25b 25c 25d 25e 29a 1d08 1d93 1d94 2c7b ab33 ab34 259",
    "f": "192 3dd 584 1d6e 1d82 1e9d a730 a799 ab35 24a1 a77c",
    "g": "18d 1e5 260 261 262 50d 581 13fb 1d83 a7a1 ab90 24a2 29b 1d77 1d79 a77f a7d1 ab36",
    "h": "266 29c 3b7 43d 4bb 570 13c2 2c68 2c8f a795 ab8b ab92 24a3 265 2ae 2af",
    "i": "131 268 269 26a 37a 3b9 456 4cf 13a5 1d96 1fbe 2c93 a647 ab75 24a4 1d09",
    "j": "237 249 25f 284 29d 3f3 458 1d0a ab7b 24a5",
    "k": "199 3ba 43a 1d0b 1d84 2c6a 2c95 a741 a743 a745 a7a3 abb6 24a6 29e",
    "l": "19a 1c0 234 26b 26c 26d 29f 1d85 2c61 2cd1 2d4f a4f2 a749 a78e abae 10443 24a7 1d0c a781 ab37 ab38 ab39",
    "m": "271 3bc 3fb 43c 1d0d 1d6f 1d86 2c99 ab87 24a8 270 1d1f a7fa ab3a",
    "n": "19e 235 272 273 274 578 57c 1d70 1d87 2c9b a791 a7a5 24a9 1d0e ab3b",
    "o": "275 3bf 43e 585 1d0f 1d11 2c7a 2c9f a74b a74d ab3d 1042c 24aa 254 1d10 1d12 1d13 1d16 1d17 1d97 ab3e ab3f",
    "p": "1a5 3c1 3f1 440 1d18 1d71 1d7d 1d88 2ca3 a751 a753 a755 abb2 24ab",
    "q": "24b 2a0 51b 563 566 a757 a759 a7af 24ac",
    "r": (
        "24d 27c 27d 27e 280 433 1d26 1d72 1d73 1d89 2c85 a7a7 ab47 ab48 ab71 ab81 aba2 24ad 279 27a 27b 27f "
        "281 1d19 1d1a 2c79 a783 ab45 ab46 ab49 ab4b ab4c ab68"
    ),
    "s": "1bd 23f 282 455 57f 1d74 1d8a a731 a7a9 a7ca aba5 abaa 10448 24ae a785",
    "t": "1ab 1ad 236 288 3c4 442 1d1b 1d75 2c66 2ca7 ab72 24af 287 a787",
    "u": "28b 3c5 57d 1d1c 1d99 a79f a7b9 ab4e ab52 24b0 1d1d 1d1e 28a 1d7f",
    "v": "3bd 475 1d20 2c71 2c74 a75f aba9 24b1 28c",
    "w": "26f 461 51d 561 1d21 2c73 ab83 aba4 24b2 28d",
    "x": "3c7 445 1d8d 2cad ab53 24b3 ab56 ab57 ab58 ab59",
    "y": "1b4 24f 263 28f 3b3 443 4af 1d8c 1eff 2ca9 ab5a ab79 ab8d 24b4 28e",
    "z": "1b6 225 240 290 291 3b6 1d22 1d76 1d8e 2c6c ab93 24b5",
    "~": "2dc 1fc0 2053 223c",
}

CONFUSABLES: Final[dict[str, str]] = {
    chr(int(code, 16)): plain for plain, codes in _LOOK_ALIKES.items() for code in codes.split()
}
"""Of a character, the ASCII character that it looks like."""
