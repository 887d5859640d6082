// Why a figure is missing or not final. Accounting says it in English; here are the same sentences in Chinese.

import { language } from "./i18n.js";

const SENTENCES = [
  [/^less than (\S+) known$/, "数据不足 $1，不予发布"],
  [/^the month is not over$/, "本月未结束"],
  [/^(\d+) of (\d+) slots are not known: energy is a lower bound$/, "$2 个时段中有 $1 个未知：电量为下限"],
  [/^no price for (\d+) slots: their energy is not in the bill$/, "$1 个时段没有电价：其电量未计入账单"],
  [/^public holidays of (\d+) are not known: weekends and fixed holidays alone are priced as such$/,
    "$1 年节假日安排未知：只按周末和固定节日计价"],
  [/^(\S+) kWh are split over time by estimate$/, "$1 kWh 的分时为估算"],
  [/^no measured slot: the demand charge is missing$/, "没有实测时段：缺需量电费"],
  [/^a slot near the peak is not measured: the demand is a lower bound$/, "峰值附近有时段未测：需量为下限"],
  [/^kWh per kVA is a lower bound: the demand price may still fall to (\S+)$/, "每千伏安用电量为下限：需量电价仍可能降至 $1"],
  [/^no reactive counter at the gate: the power-factor adjustment is missing$/, "关口没有无功电能表：缺功率因数调整电费"],
  [/^reactive energy has unknown slots: the power factor may be lower$/, "无功电能有时段未知：功率因数可能更低"],
  [/^no counter of this carrier counts for the base$/, "没有计入基地的该能源品种计量点"],
  [/^no counter or bill of (\S+)$/, "没有 $1 的计量点或账单"],
  [/^no value added in the ledger for this period$/, "台账未填报本期工业增加值"],
  [/^nothing of (\S+) in the ledger$/, "台账没有 $1"],
  [/^readings, marks or limits changed$/, "读数、标记或限值有变"],
  [/^time went on$/, "时间推移"],
  [/^needs counters of fresh and of reclaimed water$/, "需要新水与再生水计量"],
  [/^no solid waste in the ledger for this period$/, "台账没有本期固体废物"],
  [/^no outlet measures it$/, "没有排放口监测该项"],
  [/^the base has no baseline year.*$/, "基地没有基准年"],
  [/^the formula has no value: a division by zero$/, "公式无值：除数为零"],
];

/** The sentence in the page's language; one that is not known is shown as it came. */
export function reasonText(sentence) {
  if (!sentence || language() !== "zh") return sentence ?? "";
  const [, name, rest] = /^([\w.@]+): (.+)$/.exec(sentence) ?? [];
  const said = rest && !SENTENCES.some(([pattern]) => pattern.test(sentence)) ? rest : sentence;
  const known = SENTENCES.find(([pattern]) => pattern.test(said));
  const text = known ? said.replace(...known) : said;
  return said === sentence ? text : `${name}：${text}`;
}
