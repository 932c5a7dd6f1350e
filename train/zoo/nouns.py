"""Who and what the zoo shows: names, and the picture of each in an emoji font."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """`faces`: the way the font draws it, "" where it looks the same both ways or straight out."""

    emoji: str
    english: tuple[str, ...]  # the usual name first
    chinese: str
    measure: str  # the word between 一 and the noun
    faces: str = "left"


def _table(rows: str, faces: str = "left") -> dict[str, Noun]:
    """One noun a line: emoji, English names joined by |, Chinese, measure word, and "-" if it faces nowhere."""
    nouns = {}
    for row in rows.strip().splitlines():
        emoji, english, chinese, measure, *rest = row.split()
        names = tuple(name.replace("_", " ") for name in english.split("|"))
        nouns[names[0]] = Noun(emoji, names, chinese, measure, {"-": "", ">": "right"}.get("".join(rest), faces))
    return nouns


ANIMALS = _table("""
🦁 lion 狮子 头 -
🐅 tiger 老虎 只
🐆 leopard|cheetah 豹子 只
🐎 horse|pony 马 匹
🐄 cow 奶牛 头
🐖 pig|hog 猪 头
🐑 sheep 绵羊 只
🐐 goat 山羊 只
🐪 camel 骆驼 头
🦒 giraffe 长颈鹿 只
🐘 elephant 大象 头
🦏 rhino|rhinoceros 犀牛 头
🦛 hippo|hippopotamus 河马 头
🐁 mouse 老鼠 只
🐇 rabbit|bunny 兔子 只
🐿️ squirrel|chipmunk 松鼠 只
🦔 hedgehog 刺猬 只
🐕 dog|puppy 狗 只 -
🐈 cat|kitten 猫 只
🐓 rooster 公鸡 只
🦃 turkey 火鸡 只
🦆 duck 鸭子 只
🦢 swan 天鹅 只
🦉 owl 猫头鹰 只 -
🦜 parrot 鹦鹉 只
🦩 flamingo 火烈鸟 只
🐧 penguin 企鹅 只
🐢 turtle|tortoise 乌龟 只
🦕 dinosaur|brontosaurus 恐龙 只
🐋 whale 鲸鱼 头
🐬 dolphin 海豚 只
🐟 fish 鱼 条
🦈 shark 鲨鱼 条
🐙 octopus 章鱼 只 -
🐌 snail 蜗牛 只
🐝 bee|honeybee 蜜蜂 只
🐞 ladybug|ladybird 瓢虫 只 -
🦀 crab 螃蟹 只 -
🐼 panda|panda_bear 熊猫 只 -
🐒 monkey 猴子 只 -
🦌 deer 鹿 只
""")
VEHICLES = _table("""
🚗 car|red_car 汽车 辆
🚕 taxi|cab 出租车 辆
🚌 bus|coach 公共汽车 辆
🚓 police_car 警车 辆
🚒 fire_engine|fire_truck 消防车 辆
🚚 truck|lorry 卡车 辆
🚜 tractor 拖拉机 辆
🚲 bicycle|bike 自行车 辆
🚂 train|steam_train 火车 列
🚁 helicopter|chopper 直升机 架
🚀 rocket|spaceship 火箭 枚 -
⛵ sailboat|sailing_boat 帆船 艘 -
""")
THINGS = _table(
    """
🍎 apple|red_apple 苹果 个
🍌 banana 香蕉 根
🎂 cake|birthday_cake 蛋糕 个
⚽ ball|football 足球 个
🎈 balloon 气球 个
☂️ umbrella 雨伞 把
🏠 house|cottage 房子 座
🌳 tree 树 棵
🍄 mushroom|toadstool 蘑菇 个
🌻 sunflower|flower 向日葵 朵
🤖 robot 机器人 个
⛄ snowman 雪人 个
""",
    faces="",
)
NOUNS = ANIMALS | VEHICLES | THINGS
