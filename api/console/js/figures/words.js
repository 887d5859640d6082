// Words of the page of period figures: [Chinese, English]; what is not here is a word of the monitoring page.

import { language, t as pageWord } from "../i18n.js";

const words = {
  title: ["期间数据", "Period figures"], back: ["返回监测", "Back to monitoring"], ledger: ["台账", "Ledger"],
  "kind.day": ["日", "Day"], "kind.month": ["月", "Month"], "kind.quarter": ["季", "Quarter"], "kind.year": ["年", "Year"],
  earlier: ["上一期", "Earlier"], later: ["下一期", "Later"], period: ["期间", "Period"],
  "by.carrier": ["按能源品种", "By carrier"], "by.enterprise": ["按企业", "By enterprise"], "by.unit": ["按单元", "By unit"],
  "measure.energy": ["实物量", "Amount"], "measure.tce_calorific": ["标煤（当量）", "tce, calorific"], "measure.tce_equivalent": ["标煤（等价）", "tce, equivalent"], "measure.co2": ["CO₂", "CO₂"], "measure.cost": ["费用", "Cost"], "measure.water": ["新水", "Fresh water"], "measure.mass": ["排放量", "Mass"],
  "total.tce_calorific": ["综合能耗（当量）", "Energy, calorific"], "total.tce_equivalent": ["综合能耗（等价）", "Energy, equivalent"], "total.co2": ["二氧化碳", "CO₂"], "total.cost": ["能源费用", "Energy cost"], "total.water": ["新水", "Fresh water"],
  energy: ["能源与水", "Energy and water"], emission: ["污染物排放量", "Pollutant mass"], units_note: ["单元的数是其自身计量表的数，可能含下级表，不与基地合计相加。", "A unit's figures are those of its own meters, which may include meters below: they do not add up to the base."],
  scope: ["对象", "Of"], unit: ["单位", "Unit"], this: ["本期", "This period"], before: ["上期", "Previous"], year_before: ["去年同期", "A year before"], change: ["变化", "Change"],
  daily_change: ["日均变化", "Change of the daily mean"], running: ["本期已过 {days} 天，变化按日均比较", "{days} days of this period are over: changes are of the daily mean"], too_short: ["本期刚开始，不作比较", "This period has just begun: nothing is compared"],
  other_carriers: ["品种不同", "other carriers"], other_carriers_about: ["该期有数据的能源品种与本期不同，不作比较", "That period has data of other carriers than this one: not compared"], not_read: ["尚未读到数据", "Nothing could be read yet"], short_of_data: ["数据不足，不比较", "too few data to compare"], nothing: ["本期没有核算数据", "Nothing is accounted for this period"], no_mass: ["本期没有排放核算", "No emission is accounted for this period"],
  valid_hours: ["有效小时", "Valid hours"], exceeded_hours: ["超标小时", "Hours over limit"], substituted: ["替代小时", "Substituted hours"],
  csv: ["导出 CSV", "Save as CSV"], print: ["打印", "Print"], as_of_accounting: ["核算至 {at}", "accounted to {at}"],
  traced: ["点击数字可追溯到原始读数。", "Click a figure to follow it down to its samples."],
  lacking_factor: ["缺少系数", "a factor is missing"], lacking_tariff: ["缺少价格", "a price is missing"], grade: ["等级", "Grade"], "quality.good": ["正常", "good"], "quality.estimated": ["含估算", "partly estimated"], "quality.uncertain": ["存疑", "uncertain"], "quality.missing": ["缺失", "missing"],
  reports: ["年度与评估报告", "Reports of the base"], reports_about: ["文件按当前数据生成，可能需要半分钟；{year} 年。", "Made of the present data, which may take half a minute; year {year}."], "report.annual": ["年度总结", "Annual summary"], "report.midterm": ["中期评估", "Mid-term evaluation"], "report.final": ["终期评估", "Final evaluation"],
  sealed: ["已封存 {n} 版", "{n} sealed versions"], not_sealed: ["未封存", "not sealed"], making: ["正在生成…", "being made…"],
  trace: ["数据追溯", "Trace"], back_to: ["返回 {what}", "Back to {what}"], agrees: ["各部分之和与此数一致", "its parts add up to it"], disagrees: ["各部分之和与此数不一致", "its parts do not add up to it"],
  "scope.base": ["基地", "base"], "scope.enterprise": ["企业", "enterprise"], "scope.unit": ["单元", "unit"], "scope.outlet": ["排放口", "outlet"], "scope.point": ["测点", "point"], indicator: ["指标", "indicator"], "kind.co2": ["CO₂", "CO₂"],
  parts: ["计量表", "Counters"], share: ["份额", "Share"], slots: ["已知/应有一刻钟", "Quarter-hours known / due"], estimated: ["其中估算", "Estimated"], days: ["按日", "By day"], day: ["日", "Day"], hours: ["按小时", "By hour"], hour: ["时刻", "Hour"],
  intervals: ["一刻钟用量", "Quarter-hours"], at: ["时刻", "At"], amount: ["数量", "Amount"], method: ["方法", "Method"], samples: ["原始读数", "Samples"], value: ["数值", "Value"], register: ["示数 {first} → {last}", "register {first} → {last}"], meters: ["表计", "Meters"], meter: ["{serial}：{from} 起用", "{serial}: since {from}"], meter_until: ["{serial}：{from} – {to}", "{serial}: {from} – {to}"],
  "method.measured": ["实测", "measured"], "method.rollover": ["翻转", "roll-over"], "method.swap": ["换表", "meter swap"], "method.reset": ["清零", "reset"], "method.gap_split": ["缺口分摊", "gap, split"], "method.spike_removed": ["剔除尖峰", "spike removed"], "method.formula": ["公式", "formula"],
  factors: ["系数", "Factors"], edition: ["版本", "Edition"], source: ["来源", "Source"], unverified: ["未核实", "not verified"], tariffs: ["价格", "Tariffs"], bills: ["账单（台账）", "Bills (ledger)"], entries: ["台账记录", "Ledger entries"], "status.preliminary": ["初步", "preliminary"], "status.final": ["确定", "final"], replaced_by: ["已由 #{id} 更正", "replaced by #{id}"], leads_to: ["由下列数据得出", "Made of these figures"], steps: ["计算步骤", "Steps"], made_of: ["公式", "Formula"],
  "step.used": ["使用", "used"], "step.sold_not_deducted": ["外供（不扣减）", "sold, not deducted"], "step.feedstock": ["原料用能", "feedstock"], "step.green_power": ["绿电", "green power"], "step.own_generation": ["自发电", "own generation"], "step.residual_factor": ["剩余因子", "residual factor"],
  revised: ["此数及其部分被更正 {n} 次，最近一次 {at}（{reason}）", "This figure and its parts were revised {n} times, last at {at} ({reason})"], truncated: ["行数过多，仅显示一部分", "Too many rows: a part is shown"], withheld: ["未发布：{why}", "withheld: {why}"], substituted_mark: ["替代", "substituted"], over_mark: ["超标", "over limit"], item: ["项目", "Item"], carrier: ["品种", "Carrier"], of_total: ["合计", "Total"],
};

/** A word in the page's language, places filled. */
export function t(key, places = {}) {
  if (!words[key]) return pageWord(key, places);
  return words[key][language() === "zh" ? 0 : 1].replace(/\{(\w+)\}/g, (_, name) => places[name] ?? "");
}

/** A word of a group; an unknown one shows its code. */
export const w = (group, code) => {
  const text = t(`${group}.${code}`);
  return text === `${group}.${code}` ? code : text;
};
