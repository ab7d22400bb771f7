"""Samples of the eleven basic colours: Munsell notations with their sRGB values.

Each term has its focal colour (Heider, "Universals in color naming and memory", 1972: red 5R 4/14, orange
2.5YR 6/16, yellow 2.5Y 8/16, green 7.5G 5/10, blue 2.5PB 5/12, purple 5P 3/10, pink 5R 8/6, brown 5YR 3/6)
and more notations within its region of the Munsell solid, as Kelly and Judd name these regions ("Color:
Universal Language and Dictionary of Names", NBS Special Publication 440, 1976). The notations were chosen by
hand, and converted by the renotation of 1943 (ASTM D1535) from illuminant C to D65 with the Bradford
transform; what is outside sRGB is clipped. The source of the renotation is the table of the Munsell Color
Science Laboratory, https://www.rit-mcsl.org/MunsellRenotation, as ``munsell_colour_to_xyY`` of colour-science
interpolates it (BSD-3-Clause).

Black, grey and white lie a little lower than on Munsell's scale: what people call white or black in a
photograph is seldom fully lit, and never without light.
"""

from collections.abc import Mapping
from types import MappingProxyType

from segdex_core.colours import ColourName

MUNSELL_SAMPLES: Mapping[ColourName, str] = MappingProxyType(
    {
        "black": """
            N2.75 424242  5PB 2/1 2e3137  5B 2/1 2a3235  5YR 2/1 392f2b  5G 2/1 2b332f  5P 2/1 342f36
            N0 000000  N1 1c1c1c  N2 313131  5R 1/2 2d151b  5Y 1/2 231b08  5G 1/2 111f19  5B 1/2 0a1f26
            5P 1/2 241829  10YR 1/2 281909""",
        "white": """
            N7.75 c1c1c1  10YR 8/1 cfc7bc  5R 8/1 cfc6c5  5YR 8/1 d1c6bf  5B 8/1 bfcacc  5PB 8/1 c5c8cd
            5Y 9/2 ece3c3  5Y 8/1.5 cec8b2  10YR 9/2 f1e1c8  5G 8/1 bdcbc3  5P 8/1 c9c7cc  N8.5 d5d5d5
            N9 e3e3e3  N9.5 f1f1f1  N8.75 dcdcdc  5Y 9/1 e7e3d3  5YR 9/1 ece1da  5B 9/1 dae5e8
            5PB 9/1 e0e3e8  5P 9/1 e4e2e7  5G 9/1 d7e7dd""",
        "grey": """
            N4 606060  N4.5 6d6d6d  N5.5 868686  N6.25 9a9a9a  10YR 5/1 81786f  10YR 6/1 9b9288
            5B 5/1 717b7e  5B 6/1 8b9598  5PB 4/1 5d6067  5G 5/1 717c76  5P 5/1 7c787e  5R 5/1 827776
            5B 4/1 586265  10YR 4/1 685f56""",
        "red": """
            5R 4/14 bc1a33  5R 5/14 da414a  7.5R 4/14 ba2121  7.5R 5/16 e4342a  5R 3/10 8b182b
            5R 2/8 620e25  2.5R 4/12 b02d49  5R 4/10 a63b3f  5R 3/6 743335  2.5R 3/10 8b1637
            10RP 4/12 af2d55  7.5R 4/10 a63d34  10RP 3/8 7e2742  5R 5/10 c45756  8R 5/14 d94530""",
        "orange": """
            10R 7/10 fb916c  2.5YR 6/16 f06c00  5YR 7/12 f99534  2.5YR 6/12 e3752f  5YR 6/12 db7b17
            7.5YR 7/12 f09b1e  10R 6/14 f4682f  5YR 7/10 f0994f  2.5YR 7/12 ff8f48  7.5YR 7/10 e99e42
            7.5YR 8/8 febb71  10R 6/12 e96f42  2.5YR 5/12 c45b10""",
        "yellow": """
            10Y 8/8 d2cd57  7.5Y 7/8 bfaf3e  10Y 7/8 b7b23d  2.5Y 8/16 febf00  5Y 8/14 ecc600
            5Y 8/12 eac600  5Y 9/10 ffe251  2.5Y 8/12 f8c011  5Y 8/8 e2c759  5Y 9/6 f8e38c
            7.5Y 8/10 dcca32  10YR 8/12 ffbb2a  7.5Y 9/8 f5e66d  5Y 7/10 ccab13  2.5Y 7/10 d7a725
            5Y 8.5/4 e4d69c  10Y 9/10 efe94b""",
        "green": """
            7.5G 5/10 008f68  2.5G 5/12 009145  5G 3/8 005636  5G 4/10 007447  10GY 6/12 2faa35
            10GY 7/10 67c25f  5GY 7/12 96bc00  5GY 7/10 9aba28  5GY 5/8 698318  2.5GY 8/12 c4d200
            7.5GY 4/8 396d14  5GY 4/6 536821  10GY 3/6 205226  5G 2/6 003a25  2.5BG 5/8 008c7a
            5BG 5/8 008b84  5G 7/8 53c192  5G 8/6 86d9b0  5BG 3/6 005351  5G 6/4 6b9e85  5GY 6/4 8c9967
            7.5GY 3/4 374e2c  10GY 5/4 61825f  5GY 8/6 bed17d  5G 4/4 3b6954  5GY 3/4 3f4c25
            10GY 9/6 b5f3ab  10Y 5/6 807d2a""",
        "blue": """
            7.5PB 1/6 161740  5PB 1.5/6 00264e  7.5PB 1.5/4 212441  8PB 4/12 4f57ae  8PB 6/8 8790c8
            8PB 3/8 3e417d  10BG 6/4 639da1  5B 9/3 c2eaf3  7.5PB 2/6 282d57  2.5PB 5/12 0080cb
            5PB 4/12 0062b0  5PB 3/10 00488b  5PB 2/8 003165  7.5PB 3/12 333e95  7.5PB 2/10 24286f
            10B 5/10 0083ba  10B 6/8 479cc7  5B 6/8 00a1bf  5B 5/8 0086a6  2.5B 6/8 00a4b7
            10B 7/8 63b7e2  10B 8/6 94d0f0  2.5PB 7/8 77b3e4  5PB 6/10 6096d8  5PB 7/6 94afd6
            5B 8/4 9cd0dd  2.5PB 4/6 3a6388  5PB 5/6 617ba2  5PB 3/6 2a4872  10B 3/6 004d6f
            5B 4/6 006981  5B 3/6 005069  5PB 2/4 21314b  2.5PB 6/4 7e96ac  5B 7/6 67b9cd
            10BG 6/8 00a5af  7.5PB 4/14 4357bb  5PB 8/4 b7c9e2  7.5PB 5/10 6575bc""",
        "purple": """
            2.5P 2/8 41225a  2.5P 5/10 8a6bb3  1P 4/14 6f4ab1  1P 4/10 6a539b  1P 6/8 988bc5
            1P 7/6 b0a8d3  2.5P 4/6 6a5883  10P 5/8 a26594  2.5P 6/6 9b8cb7  5P 3/10 66307a
            5P 4/12 82479b  5P 5/10 9567ac  5P 6/8 a886bd  2.5P 4/12 774ba2  7.5P 4/12 8d4192
            7.5P 5/10 a163a4  10P 4/10 8e4482  10P 3/8 6d3066  5P 2/6 42254c  2.5P 3/8 583975
            2.5P 7/8 b8a3de  5P 7/8 c2a1d8  5P 4/6 715580  5P 3/4 55405f  2.5RP 3/8 732d5d
            10P 5/12 b358a2  5P 8/6 d6bfe9""",
        "pink": """
            5R 8.5/3 efcecb  5RP 8.5/3 e9cfd6  5R 8/6 fbb7b1  5R 7/8 ee9590  2.5R 8/6 fab7b7
            10RP 8/6 f8b7bd  10RP 7/10 f88e9e  5RP 7/10 f190b4  5RP 6/12 e06d9d  5RP 8/6 f3b8ca
            2.5R 6/10 de737b  2.5R 7/10 fb8e93  2.5RP 7/10 e992c2  2.5RP 6/12 d770ae  7.5RP 5/14 d34179
            10R 8/4 ecbeae  10R 7/6 e09e88  5RP 5/14 cf4487  5R 6/8 d17b77  5R 7/4 cfa39f
            10P 8/6 e8bada""",
        "brown": """
            5YR 3/6 6d3b19  5YR 2/4 4a2817  5YR 4/6 88532f  5YR 5/6 a46d46  7.5YR 5/6 a16f3f
            10YR 4/4 785b36  10YR 3/4 5d4322  2.5YR 3/6 713820  2.5YR 4/6 8c5136  10R 3/6 733529
            10R 2/4 4d2521  7.5YR 4/8 8b530f  5YR 4/8 904f1b  10YR 5/6 9b7237  7.5YR 6/4 b18d6d
            10YR 6/4 ac8f67  5YR 3/3 5e4132  10YR 2/3 402d18  2.5Y 4/4 735d33  7.5YR 6/6 bc8958
            2.5YR 5/6 a76b4e  2.5YR 2/3 472922""",
    }
)
"""By name: notations (hue value/chroma, or N value for greys), each with six hexadecimal digits of sRGB."""
