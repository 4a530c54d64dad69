"""The text for a guest's users before it is moved: what, when, how long, what they will notice. As a mail that can be sent."""

from enum import StrEnum

from ferryman.model.phase import Phase
from ferryman.model.plan import Method, NewDisk, Plan
from ferryman.model.request import Options
from ferryman.model.units import format_moment, format_size


class Language(StrEnum):
    """What it can be written in."""

    EN = "en"
    ZH = "zh"


class _Course(StrEnum):
    """What users go through."""

    LIVE = "it runs all the time"
    RESTART = "it is stopped and started again, and nothing is copied meanwhile"
    AHEAD = "it is stopped and started again, and little is left to be copied then"
    COPY = "it is stopped, and nobody knows how long the copying takes"
    OFF = "it is off, and stays so"


# Subject, then paragraphs: what and when, how long, what is noticed, what to do.
_TEXTS: dict[tuple[Language, _Course], tuple[str, ...]] = {
    (Language.EN, _Course.LIVE): (
        "{guest} moves to another server",
        "The virtual machine {guest} will be moved to another server of ours {when}. It goes on running while it moves.",
        "How long: at the end of the move it does not answer for a moment, usually for less than a second and for {pause} at most.",
        "What you will notice: probably nothing. Open connections stay open; a video call may stutter once. While the "
        "move is under way the machine may be a little slower than usual.",
        "There is nothing you have to do.",
    ),
    (Language.EN, _Course.RESTART): (
        "{guest} will be restarted on another server",
        "The virtual machine {guest} will be shut down {when}, and started again on another server of ours.",
        "How long: it has up to {stop} to shut down, and starts again right afterwards; together with its start, expect a few minutes.",
        "What you will notice: it cannot be reached during that time. Open connections break, and programs that run on it end.",
        "Please save your work and log out before. Afterwards, connect again as usual.",
    ),
    (Language.EN, _Course.AHEAD): (
        "{guest} will be restarted on another server",
        "The virtual machine {guest} will be shut down {when}, and started again on another server of ours. Most of it is copied there before, while it runs.",
        "How long: it has up to {stop} to shut down; then what was written last is copied, and it starts again. Expect a few minutes, more if a lot is "
        "being written to it at that time. If the move fails, it is started again where it is now.",
        "What you will notice: it cannot be reached during that time. Open connections break, and programs that run on it end. Before that, it may be a little slower than usual.",
        "Please save your work and log out before. Afterwards, connect again as usual.",
    ),
    (Language.EN, _Course.COPY): (
        "{guest} will be unavailable while it moves to another server",
        "The virtual machine {guest} will be shut down {when}, copied to another server of ours, and started again there.",
        "How long: it stays off until {size} have been copied and checked. How long that takes cannot be forecast, so "
        "please do not count on a certain time. If the move fails, it is started again where it is now.",
        "What you will notice: it cannot be reached during that time. Open connections break, and programs that run on it end.",
        "Please save your work and log out before. We will write again when it runs.",
    ),
    (Language.EN, _Course.OFF): (
        "{guest}, which is switched off, moves to another server",
        "The virtual machine {guest} will be moved to another server of ours {when}. It is switched off, and stays so.",
        "How long: that cannot be forecast; it depends on what has to be copied.",
        "What you will notice: nothing, except that it cannot be switched on until the move is over.",
        "There is nothing you have to do, as long as you do not need it during that time. If you do, please tell us before.",
    ),
    (Language.ZH, _Course.LIVE): (
        "虚拟机 {guest} 将迁移到另一台服务器",
        "我们将{when}把虚拟机 {guest} 迁移到另一台服务器。迁移期间它照常运行。",
        "影响时长：迁移收尾时它会短暂无响应，通常不到一秒，最多{pause}。",
        "您可能注意到的：多半没有任何感觉。已建立的连接不会断开，视频通话可能卡顿一下；迁移过程中，机器可能比平时稍慢。",
        "您无需做任何事情。",
    ),
    (Language.ZH, _Course.RESTART): (
        "虚拟机 {guest} 将在另一台服务器上重新启动",
        "我们将{when}关闭虚拟机 {guest}，并在另一台服务器上重新启动它。",
        "影响时长：关机最多需要{stop}，随后立即启动；连同启动时间，预计几分钟。",
        "您会注意到的：这段时间内无法访问该机器，已建立的连接会断开，其中正在运行的程序会终止。",
        "请提前保存工作并退出登录。完成后照常重新连接即可。",
    ),
    (Language.ZH, _Course.AHEAD): (
        "虚拟机 {guest} 将在另一台服务器上重新启动",
        "我们将{when}关闭虚拟机 {guest}，并在另一台服务器上重新启动它。其大部分数据会提前在运行期间复制过去。",
        "影响时长：关机最多需要{stop}，随后复制最后写入的数据并启动，预计几分钟；如果当时写入量很大，时间会更长。如果迁移失败，它会在原来的服务器上重新启动。",
        "您会注意到的：这段时间内无法访问该机器，已建立的连接会断开，其中正在运行的程序会终止。在此之前，机器可能比平时稍慢。",
        "请提前保存工作并退出登录。完成后照常重新连接即可。",
    ),
    (Language.ZH, _Course.COPY): (
        "虚拟机 {guest} 迁移到另一台服务器期间将暂停服务",
        "我们将{when}关闭虚拟机 {guest}，把它复制到另一台服务器，并在那里重新启动。",
        "影响时长：在 {size} 数据复制并校验完毕之前，它一直处于关机状态。所需时间无法预估，请勿按某个确定的时间安排工作。如果迁移失败，它会在原来的服务器上重新启动。",
        "您会注意到的：这段时间内无法访问该机器，已建立的连接会断开，其中正在运行的程序会终止。",
        "请提前保存工作并退出登录。机器恢复运行后，我们会再次通知您。",
    ),
    (Language.ZH, _Course.OFF): (
        "已关机的虚拟机 {guest} 将迁移到另一台服务器",
        "我们将{when}把虚拟机 {guest} 迁移到另一台服务器。它目前处于关机状态，迁移后仍保持关机。",
        "影响时长：无法预估，取决于需要复制的数据量。",
        "您会注意到的：没有任何变化，只是在迁移结束之前无法开机。",
        "如果这段时间内不需要使用它，您无需做任何事情；如果需要，请提前告知我们。",
    ),
}  # fmt: skip
_LOST = {
    Language.EN: "Important: the machine goes back to an earlier state of its disks. What was written to it since then will not be there.",
    Language.ZH: "重要提示：该机器的磁盘将恢复到较早的状态，此后写入的数据将不复存在。",
}  # fmt: skip
_SUBJECT = {Language.EN: "Subject: ", Language.ZH: "主题："}
_GREETING = {Language.EN: "Hello,", Language.ZH: "您好！"}
_QUESTIONS = {
    Language.EN: "If that does not suit you, or if you have questions, please answer to this mail (request {request}).",
    Language.ZH: "如果时间不合适，或有任何疑问，请直接回复本邮件（请求编号 {request}）。",
}
_WHEN = {Language.EN: "on {day} at {time} UTC", Language.ZH: "于 {day} {time}（UTC）"}
_NOW = {Language.EN: "now", Language.ZH: "现在开始"}
_SOON = {Language.EN: "soon", Language.ZH: "稍后"}
# Before that which users notice, nobody knows for how long: others' turns, a backup, most of the disks.
_BEFORE = (Phase.QUEUED, Phase.WAITING, Phase.PREPARING, Phase.BACKING_UP, Phase.COPYING_AHEAD)
_A_FEW_SECONDS = {Language.EN: "a few seconds", Language.ZH: "几秒"}
FEW = 3.0  # seconds
_UNITS = {Language.EN: (" second", " minute"), Language.ZH: (" 秒", " 分钟")}


def notice(
    plan: Plan, options: Options, *, request: str, phase: Phase, begins: float | None, language: Language
) -> str:
    """The mail, its subject first. `begins`: seconds since the epoch, of the stop where it is copied ahead; None: no moment is agreed."""
    subject, *paragraphs = _TEXTS[language, _course(plan)]
    words = {
        "guest": plan.guest,
        "when": _when(begins, _SOON if phase in _BEFORE else _NOW, language),
        "stop": _duration(options.stop_timeout, language),
        "pause": _pause(options.max_downtime, language),
        "size": format_size(sum(disk.allocation for disk in _while_it_is_off(plan))),
        "request": request,
    }
    lost = [_LOST[language]] if plan.take_back else []
    text = [_SUBJECT[language] + subject, _GREETING[language], *paragraphs, *lost, _QUESTIONS[language]]
    return "\n\n".join(text).format(**words)


def _course(plan: Plan) -> _Course:
    if plan.method is Method.LIVE:
        return _Course.LIVE
    if not plan.starts:
        return _Course.OFF
    if _while_it_is_off(plan):
        return _Course.COPY
    return _Course.AHEAD if plan.ahead else _Course.RESTART


def _while_it_is_off(plan: Plan) -> list[NewDisk]:
    """Disks of which all is copied, or at least looked through, while nobody can use the guest."""
    looked_through = {disk.target for disk in plan.ahead if not disk.remembers}
    return [new for new in plan.new_disks if new in plan.after_the_stop or new.target in looked_through]


def _pause(allowed: float, language: Language) -> str:
    return _A_FEW_SECONDS[language] if allowed <= FEW else _duration(allowed, language).strip()


def _when(begins: float | None, otherwise: dict[Language, str], language: Language) -> str:
    if begins is None:
        return otherwise[language]
    day, time, *_ = format_moment(begins).split()
    return _WHEN[language].format(day=day, time=time[:5])


def _duration(seconds: float, language: Language) -> str:
    """In whole minutes from two of them on, as people say it."""
    number, unit = (seconds, 0) if seconds < 120 else (seconds / 60, 1)
    plural = "s" if language is Language.EN and round(number) != 1 else ""
    return f"{' ' if language is Language.ZH else ''}{number:.0f}{_UNITS[language][unit]}{plural}"
